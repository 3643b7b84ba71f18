//! Who calls: a key's role and tenant. Nobody gets in without a key.

use crate::{
    error::{Answer, ApiError},
    options::Api,
};
use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use plimsoll_engine::Scope;
use plimsoll_state::Role;
use plimsoll_types::{Code, TenantId};

/// Whoever may use sandboxes: operators and platforms.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    role: Role,
    /// Whose sandboxes its creates are.
    pub(crate) tenant: TenantId,
}

/// Whoever may change hosts, keys and nodes.
pub(crate) struct Operator;

/// Whoever may read metrics: any key, or anybody where the node's configuration says so.
pub(crate) struct Observer;

impl Caller {
    /// Which sandboxes it sees.
    pub(crate) fn scope(&self) -> Scope {
        match self.role {
            Role::Operator => Scope::All,
            Role::Platform | Role::Metrics => Scope::Tenant(self.tenant.clone()),
        }
    }

    /// Refuses what only operators may do with a sandbox.
    pub(crate) fn must_operate(&self, what: &str) -> Answer<()> {
        match self.role {
            Role::Operator => Ok(()),
            Role::Platform | Role::Metrics => {
                Err(ApiError::new(Code::Forbidden, format!("only an operator's key may {what}")))
            }
        }
    }

    /// Whose sandbox a create is that names this tenant.
    pub(crate) fn tenant_for(&self, asked: Option<&TenantId>) -> Answer<TenantId> {
        match asked {
            None => Ok(self.tenant.clone()),
            Some(asked) if self.role == Role::Operator || *asked == self.tenant => Ok(asked.clone()),
            Some(_) => Err(ApiError::new(
                Code::Forbidden,
                "this key makes sandboxes for its own tenant only; leave `tenant` out",
            )),
        }
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let caller = identify(parts, api).await?;
        match caller.role {
            Role::Operator | Role::Platform => Ok(caller),
            Role::Metrics => {
                Err(ApiError::new(Code::Forbidden, "this key reads metrics only; use a platform or operator key"))
            }
        }
    }
}

impl FromRequestParts<Api> for Operator {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        match identify(parts, api).await?.role {
            Role::Operator => Ok(Self),
            Role::Platform | Role::Metrics => Err(ApiError::new(
                Code::Forbidden,
                "only an operator's key may do this; make one with `plimsoll key create --role operator`",
            )),
        }
    }
}

impl FromRequestParts<Api> for Observer {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        if api.options.metrics_public {
            return Ok(Self);
        }
        identify(parts, api).await.map(|_| Self)
    }
}

async fn identify(parts: &Parts, api: &Api) -> Answer<Caller> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let secret = value.to_str().ok().and_then(|text| text.split_once(' '));
        let secret =
            secret.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, secret)| secret.trim());
        let key = match secret {
            Some(secret) => api.options.operations.authenticate(secret).await?,
            None => None,
        };
        let key = key.ok_or_else(|| {
            ApiError::new(
                Code::Unauthorized,
                "the API key is unknown or revoked; `plimsoll key ls` shows those there are",
            )
        })?;
        return Ok(Caller { role: key.role, tenant: key.tenant.clone() });
    }
    let detail = "no API key was sent; send `Authorization: Bearer plm_…` (make one with `plimsoll key create`)";
    Err(ApiError::new(Code::Unauthorized, detail))
}
