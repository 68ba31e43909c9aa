//! Pure: may a Service be made for an import, or is there no room for one more?

use landbridge_api::condition::Wanted;
use landbridge_model::ServiceKey;

use super::{Write, address::Address};
use crate::observed::Observed;

/// Why an import is kept without an address.
pub(super) struct NoRoom {
    /// What the import is told.
    pub(super) ready: Wanted,
    /// What is tried all the same, when everything else is done.
    pub(super) last: Option<Write>,
}

/// Takes back the making of a derived Service that there is no room for: by the limit that this controller was given,
/// or because the API server has no address left. The import then stands without an address and says why; Services
/// that are there stay.
pub(super) fn check(
    observed: &Observed,
    service: &ServiceKey,
    address: &mut Address<'_>,
) -> Option<NoRoom> {
    if !matches!(address.write, Some(Write::Create(_))) {
        return None;
    }
    let (reason, message, last) = if !observed.has_room_for(service) {
        let most = observed.config.max_derived_services;
        let message = format!(
            "This cluster has {most} Services for imports, as many as its controller may make (--max-derived-services)."
        );
        address.write = None;
        ("Pending", message, None)
    } else {
        let said = observed.exhausted.get(service)?;
        let message =
            format!("The API server has no address left for the import's Service: {said}");
        ("AddressesExhausted", message, address.write.take())
    };
    address.ips = Some(Vec::new());
    Some(NoRoom { ready: Wanted::new("Ready", false, reason, message), last })
}
