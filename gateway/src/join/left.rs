//! Which generation a cluster had that is a member no more, as the hub keeps it: whoever comes back under the id has a later
//! one, so that certificates of before are never believed again.

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, TRUST_NAMESPACE};
use landbridge_model::ClusterId;

use super::StoreError;

/// In the Secret: the last generation, as a number.
const GENERATION: &str = "generation";
/// Who writes it.
const MANAGER: &str = "landbridge";

/// The clusters that have left.
#[derive(Clone, Debug)]
pub struct Left {
    secrets: Api<Secret>,
}

impl Left {
    /// On the hub that `client` leads to. Nothing is sent yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { secrets: Api::namespaced(client, TRUST_NAMESPACE) }
    }

    /// The last generation that a cluster had when it left; 0 where none of this id ever has.
    ///
    /// # Errors
    /// [`StoreError::Api`].
    pub async fn generation(&self, cluster: &ClusterId) -> Result<u64, StoreError> {
        let found = self.secrets.get_opt(&name(cluster)).await;
        let what = "be asked for who has left";
        let found =
            found.map_err(|problem| StoreError::Api { what, problem: Box::new(problem) })?;
        Ok(found.as_ref().map(read).unwrap_or_default())
    }

    /// Keeps that a cluster of this generation leaves. One that is kept already stays where it is later.
    ///
    /// # Errors
    /// [`StoreError::Api`].
    pub async fn keep(&self, cluster: &ClusterId, generation: u64) -> Result<u64, StoreError> {
        let last = generation.max(self.generation(cluster).await?);
        let (params, patch) =
            (PatchParams::apply(MANAGER).force(), Patch::Apply(to_secret(cluster, last)));
        let written = self.secrets.patch(&name(cluster), &params, &patch).await;
        let what = "keep who has left";
        written.map_err(|problem| StoreError::Api { what, problem: Box::new(problem) })?;
        Ok(last)
    }
}

/// The name of the Secret that is kept of a cluster.
fn name(cluster: &ClusterId) -> String {
    format!("landbridge-left-{cluster}")
}

fn to_secret(cluster: &ClusterId, generation: u64) -> Secret {
    let data = (GENERATION.to_owned(), ByteString(generation.to_string().into_bytes()));
    Secret {
        data: Some([data].into()),
        metadata: ObjectMeta {
            labels: Some([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())].into()),
            name: Some(name(cluster)),
            namespace: Some(TRUST_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

/// What cannot be read was changed by hand: nobody may come back under the id, until it is corrected.
fn read(secret: &Secret) -> u64 {
    let value = secret.data.as_ref().and_then(|data| data.get(GENERATION));
    let text = value.and_then(|value| std::str::from_utf8(&value.0).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_read_as_it_was_kept_and_nonsense_lets_nobody_back() {
        let cluster = ClusterId::parse("berlin").unwrap();
        let kept = to_secret(&cluster, 7);
        assert_eq!(kept.metadata.name.as_deref(), Some("landbridge-left-berlin"));
        assert_eq!(read(&kept), 7);
        let mut odd = kept;
        odd.data.get_or_insert_default().insert(GENERATION.into(), ByteString(b"seven".into()));
        assert_eq!(read(&odd), u64::MAX);
        odd.data = None;
        assert_eq!(read(&odd), u64::MAX);
    }
}
