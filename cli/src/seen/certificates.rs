//! Pure: when certificates and credentials end. Of what is secret, nothing but that is kept.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use k8s_openapi::ByteString;
use landbridge_model::Timestamp;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::{Asked, Certificate, Component, Unread, metrics};

/// How many seconds a gateway's certificate lasts.
const EXPIRY: &str = "landbridge_gateway_certificate_expires_in_seconds";
/// Of several, the one that is its own; the others are its member's and the set's.
const OWN: &str = "certificate=\"gateway\"";

/// What is in a Secret, by the names of its keys.
pub(crate) type Data = BTreeMap<String, ByteString>;

/// The cluster's authority, and the roots that its gateways believe.
pub(crate) fn of_member(data: &Data) -> Vec<Certificate> {
    let mut all = certificates("authority of the gateways", text(data, "member.pem"));
    all.truncate(1);
    all.extend(certificates("root that is believed", text(data, "root.pem")));
    all
}

/// The set's root on the hub.
pub(crate) fn of_root(data: &Data) -> Vec<Certificate> {
    certificates("root of the set", text(data, "root.pem"))
}

/// By what the controller comes to a hub elsewhere.
pub(crate) fn of_hub(data: &Data) -> Certificate {
    let token = text(data, "token").map(str::to_owned).or_else(|| {
        let config: Value = serde_norway::from_str(text(data, "kubeconfig")?).ok()?;
        config.pointer("/users/0/user/token")?.as_str().map(str::to_owned)
    });
    let until = token.as_deref().and_then(expiry);
    let unknown = || Unread::Trouble("it does not say when it ends".into());
    Certificate { what: "credential of the hub".into(), until: until.ok_or_else(unknown) }
}

/// Those that gateways use now, as they say: they are nowhere else.
pub(crate) fn of_gateways(components: &[Component], now: Timestamp) -> Vec<Certificate> {
    let all = components.iter().filter_map(|one| {
        let left = metrics::value(one.metrics.as_deref()?, EXPIRY, OWN)?;
        // Whole seconds are enough, and no certificate lasts as long as numbers go.
        #[expect(clippy::cast_possible_truncation, reason = "a float becomes the nearest number")]
        let left = (left * 1000.0) as i64;
        let until = Timestamp::from_millis(now.as_millis().saturating_add(left));
        Some(Certificate { what: format!("certificate of {}", one.pod), until: Ok(until) })
    });
    all.collect()
}

fn text<'a>(data: &'a Data, name: &str) -> Option<&'a str> {
    std::str::from_utf8(&data.get(name)?.0).ok()
}

fn certificates(what: &str, pem: Option<&str>) -> Vec<Certificate> {
    let all: Vec<Asked<Timestamp>> = match pem {
        None => vec![Err(Unread::Trouble("it is not in its Secret".into()))],
        Some(pem) => Pem::iter_from_buffer(pem.as_bytes()).map(ends).collect(),
    };
    let what = what.to_owned();
    all.into_iter().map(|until| Certificate { what: what.clone(), until }).collect()
}

fn ends(pem: Result<Pem, x509_parser::error::PEMError>) -> Asked<Timestamp> {
    let unreadable = || Unread::Trouble("it cannot be read".into());
    let pem = pem.map_err(|_| unreadable())?;
    let seconds = pem.parse_x509().map_err(|_| unreadable())?.validity().not_after.timestamp();
    Ok(Timestamp::from_millis(seconds.saturating_mul(1000)))
}

/// When a token of a service account ends (RFC 7519, `exp`). Who signed it is for the hub to see.
fn expiry(token: &str) -> Option<Timestamp> {
    let claims = BASE64URL_NOPAD.decode(token.trim().split('.').nth(1)?.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(Timestamp::from_millis(claims["exp"].as_i64()?.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use landbridge_gateway::pki::Root;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn data(all: &[(&str, &str)]) -> Data {
        let one = |(name, text): &(&str, &str)| {
            ((*name).to_owned(), ByteString((*text).to_owned().into_bytes()))
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn certificates_say_when_they_end() {
        let root = Root::generate(&"prod".parse().unwrap(), NOW).unwrap();
        let member = root.issue_member(&"paris".parse().unwrap(), NOW).unwrap();
        let kept = data(&[("member.pem", &member.cert_pem()), ("root.pem", &root.cert_pem())]);
        let all = of_member(&kept);
        let days = |one: &Certificate| one.until.as_ref().unwrap().since(NOW).as_secs() / 86_400;
        assert_eq!((all.len(), days(&all[0])), (2, 90));
        assert!(days(&all[1]) > 3_600, "{all:?}");
        assert_eq!(of_root(&kept)[0].until, all[1].until);
        let lost = of_member(&data(&[("root.pem", "no certificate")]));
        assert_eq!(lost[0].until, Err(Unread::Trouble("it is not in its Secret".into())));
    }

    #[test]
    fn gateways_tell_when_their_own_end() {
        // In any order.
        let line =
            |whose: &str, left: &str| format!("{EXPIRY}{{certificate=\"{whose}\"}} {left}\n");
        let metrics = Some(line("member", "7776000") + &line("gateway", "3600.5"));
        let gateway = Component { pod: "gateway-0".into(), metrics, ..Component::default() };
        let all = of_gateways(&[gateway, Component::default()], NOW);
        let until = Ok(Timestamp::from_millis(1_790_003_600_500));
        assert_eq!(all, [Certificate { what: "certificate of gateway-0".into(), until }]);
    }

    /// RFC 7519, section 4.1.4: `exp` is "the expiration time on or after which the JWT MUST NOT be accepted".
    #[test]
    fn a_credential_says_when_it_ends_wherever_it_lies() {
        let claims = BASE64URL_NOPAD.encode(json!({"exp": 1_790_000_060}).to_string().as_bytes());
        let token = format!("e30.{claims}.c2ln");
        let config = json!({"users": [{"user": {"token": token}}]}).to_string();
        for kept in [data(&[("token", &token)]), data(&[("kubeconfig", &config)])] {
            assert_eq!(of_hub(&kept).until, Ok(Timestamp::from_millis(1_790_000_060_000)));
        }
        assert!(of_hub(&data(&[("token", "opaque")])).until.is_err());
    }
}
