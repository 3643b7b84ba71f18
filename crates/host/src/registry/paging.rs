//! Lists that a registry gives page by page.

/// What to ask for to get the next page, from a `Link` header; `None` on the last.
pub(crate) fn next(link: Option<&str>) -> Option<String> {
    let link = link?;
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !rest.contains("rel=\"next\"") {
        return None;
    }
    path_of(target)
}

/// Path and query of a reference that may name a scheme and a host: requests only ever go to the registry itself.
pub(crate) fn path_of(target: &str) -> Option<String> {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map(|at| &rest[at..])?,
        None => target,
    };
    let plain = path.starts_with("/v2/") && path.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registrys_own_paths_are_followed() {
        let next_of = |link: &str| next(Some(link));
        assert_eq!(next_of("</v2/_catalog?last=a&n=2>; rel=\"next\"").as_deref(), Some("/v2/_catalog?last=a&n=2"));
        assert_eq!(next_of("</v2/_catalog>; rel=\"prev\""), None);
        assert_eq!(next_of("garbage"), None);
        assert_eq!(next(None), None);
        assert_eq!(
            path_of("http://x:1/v2/a/blobs/uploads/u?_state=s").as_deref(),
            Some("/v2/a/blobs/uploads/u?_state=s")
        );
        for bad in ["http://x", "/etc/passwd", "/v2/a b"] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }
}
