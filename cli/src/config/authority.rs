//! Pure: the settings of `landbridge authority`.

use std::net::SocketAddr;

use super::{
    common::{Common, Membership},
    reader::Reader,
    setting::Setting,
    value,
};

const ADMIN_LISTEN: Setting = Setting::one(
    "admin-listen",
    "IP:PORT",
    "Where /metrics, /healthz, /readyz and /debug/snapshot are served; any:PORT is every address",
)
.or("127.0.0.1:9404");
const HUB_SERVER_NAME: Setting = Setting::one(
    "hub-server-name",
    "NAME",
    "What the certificate of the hub's API is called, for members that reach it through a link [default: kubernetes.default.svc in a pod, else as the kubeconfig has it]",
);
const LISTEN: Setting = Setting::one(
    "listen",
    "IP:PORT",
    "Where the hub's gateways bring those to that join or renew; any:PORT is every address",
)
.or("127.0.0.1:8443");

/// Validated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) admin: SocketAddr,
    pub(crate) common: Common,
    pub(crate) hub_server_name: Option<String>,
    pub(crate) listen: SocketAddr,
    pub(crate) membership: Membership,
}

impl super::Settings for Settings {
    fn table() -> Vec<&'static Setting> {
        let own: [&Setting; 3] = [&LISTEN, &HUB_SERVER_NAME, &ADMIN_LISTEN];
        [&Common::TABLE[..], &Membership::TABLE, &own].concat()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let common = Common::read(reader);
        let membership = Membership::read(reader);
        let hub_server_name = reader.optional(&HUB_SERVER_NAME, value::text);
        let ipv6 = reader.has_ipv6();
        let listen = reader.required(&LISTEN, |text| value::socket_or_any(text, ipv6));
        let admin = reader.required(&ADMIN_LISTEN, |text| value::socket_or_any(text, ipv6));
        Some(Self {
            admin: admin?,
            common: common?,
            hub_server_name,
            listen: listen?,
            membership: membership?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::load_text;

    #[test]
    fn nothing_is_required_and_everything_is_taken_from_its_place() {
        let settings = load_text::<Settings>("").unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8443");
        assert!(settings.admin.ip().is_loopback() && settings.hub_server_name.is_none());
        let settings = load_text::<Settings>(
            "--listen any:9
             LANDBRIDGE_HUB_SERVER_NAME=hub.example
             --admin-listen 127.0.0.2:1",
        );
        let settings = settings.unwrap();
        let told = format!("{} {:?} {}", settings.listen, settings.hub_server_name, settings.admin);
        assert_eq!(told, r#"0.0.0.0:9 Some("hub.example") 127.0.0.2:1"#);
    }
}
