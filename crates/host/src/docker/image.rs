//! Images: there, or pulled.

use super::Api;
use crate::error::{self, DockerError, Refused};
use bollard::{models::ImageInspect, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::{Code, ImageRef};

/// Makes sure that an image is there.
pub(crate) async fn ensure(api: &Api, image: &ImageRef) -> Result<(), HostError> {
    if inspect(api, image).await?.is_some() {
        return Ok(());
    }
    let reference = with_tag(image.as_str());
    let options = CreateImageOptionsBuilder::new().from_image(&reference).build();
    let docker = api.call().await?;
    let mut progress = std::pin::pin!(docker.create_image(Some(options), None, None));
    // Every line is drained, and only an error is kept: nothing of a pull's progress is held.
    while let Some(line) = progress.next().await {
        let failed = match line {
            Ok(info) => {
                info.error_detail.and_then(|detail| detail.message).map(|message| Refused { status: 500, message })
            }
            Err(error) => match DockerError::from(error) {
                DockerError::Refused(refused) => Some(refused),
                DockerError::Lost(lost) => return Err(lost),
            },
        };
        if let Some(refused) = failed {
            return Err(pull_failed(&api.name, image, &refused));
        }
    }
    match inspect(api, image).await? {
        Some(_) => Ok(()),
        None => Err(error::transient(
            Code::ImagePullFailed,
            format!("image {image} was pulled to host {} and is not there; retry", api.name),
        )),
    }
}

/// The id of an image; `None` if it is not there. One that was there just now is.
pub(crate) async fn id(api: &Api, image: &ImageRef) -> Result<Option<String>, HostError> {
    if let Some(id) = api.known.image(image.as_str()) {
        return Ok(Some(id));
    }
    Ok(inspect(api, image).await?.map(|found| found.id.unwrap_or_else(|| image.as_str().to_owned())))
}

/// What Docker knows of an image; `None` if it is not there.
pub(crate) async fn inspect(api: &Api, image: &ImageRef) -> Result<Option<ImageInspect>, HostError> {
    match api.call().await?.inspect_image(image.as_str()).await.map_err(DockerError::from) {
        Ok(found) => {
            if let Some(id) = &found.id {
                api.known.learn_image(image.as_str(), id);
            }
            Ok(Some(found))
        }
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error::docker("inspect an image", error)),
    }
}

/// A pull without a tag means every tag of the repository.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

fn pull_failed(host: &str, image: &ImageRef, refused: &Refused) -> HostError {
    let message = error::tidy(&refused.message);
    if error::is_full(&message) {
        let text = format!("host {host} has no room for image {image}: {message}; free disk space or place elsewhere");
        return error::this_host(Code::HostFull, text);
    }
    let lower = message.to_ascii_lowercase();
    let missing =
        ["not found", "manifest unknown", "does not exist", "access denied", "no such image", "repository name"];
    if refused.status == 404 || missing.iter().any(|sign| lower.contains(sign)) {
        let text = format!(
            "no registry has image {image} (or it needs a login on host {host}): {message}; check its name and tag"
        );
        return error::permanent(Code::ImageNotFound, text);
    }
    let text = format!("image {image} could not be pulled on {host}: {message}; check its network and the registry");
    error::transient(Code::ImagePullFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_names_one_tag() {
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        for (image, pulled) in [
            ("debian", "debian:latest"),
            ("h:5000/x", "h:5000/x:latest"),
            ("a/b:1", "a/b:1"),
            (digest.as_str(), digest.as_str()),
        ] {
            assert_eq!(with_tag(image), pulled);
        }
    }

    #[test]
    fn refusals_have_codes() {
        let image = ImageRef::new("a/b:1").expect("name");
        for (status, message, code) in [
            (
                404,
                "pull access denied for a/b, repository does not exist or may require 'docker login'",
                Code::ImageNotFound,
            ),
            (500, "manifest for a/b:1 not found: manifest unknown", Code::ImageNotFound),
            (500, "Get \"https://r/v2/\": dial tcp: lookup r: no such host", Code::ImagePullFailed),
            (500, "write /var/lib/docker/tmp/x: no space left on device", Code::HostFull),
        ] {
            let refused = Refused { status, message: message.to_owned() };
            assert_eq!(pull_failed("h", &image, &refused).code, code, "{message}");
        }
    }
}
