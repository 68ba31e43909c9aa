//! The settings of `landbridge gateway`, its certificate files included: they are read and checked with everything else.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
};

use landbridge_gateway::{
    Hub,
    pki::{Identity, PkiError, Source, Texts},
};
use landbridge_model::{Hostname, RegionName, Timestamp};

use super::{
    common::{Common, Membership},
    hub,
    reader::Reader,
    setting::Setting,
    value,
};
use crate::traces::{Collector, Traces};

/// Beside those of the other components, so that all three run on one machine.
const ADMIN_PORT: u16 = 9403;
/// What QUIC services use where 443 is not theirs.
const LINK_PORT: u16 = 4433;

const ACCESS_LOG_ONE_IN: Setting = Setting::one(
    "access-log-one-in",
    "N",
    "Write a line to the log when a connection ends, for one of so many, and for every refusal [default: none]",
);
const ADMIN_LISTEN: Setting = Setting::one(
    "admin-listen",
    "IP:PORT",
    "Where /metrics, /healthz, /readyz, /debug/snapshot, /debug/connections and /listening are served [default: port 9403 of --listen, of every address where that is several; the controller asks there]",
);
const GENERATION: Setting = Setting::one(
    "generation",
    "N",
    "How often the cluster has joined, for a certificate that is issued with --member-key",
)
.or("1");
const LINK_LISTEN: Setting = Setting::one(
    "link-listen",
    "IP:PORT",
    "Where other clusters' gateways dial this one (UDP, and TCP) [default: port 4433 of every address]",
);
const LISTEN: Setting = Setting::list(
    "listen",
    "IP",
    "The addresses at which pods of this cluster reach imported services through this gateway: one of each family; in a pod, any is all that it has",
);
const MEMBER_CERT: Setting = Setting::one(
    "member-cert",
    "FILE",
    "The cluster's authority (PEM), with --member-key in place of --tls-cert and --tls-key: the gateway issues its own certificates, each for 24 hours",
);
const MEMBER_KEY: Setting =
    Setting::one("member-key", "FILE", "The private key of the cluster's authority (PEM)");
const NAME: Setting = Setting::one(
    "name",
    "NAME",
    "Name of this replica, the one that its certificate was issued for",
);
const REGION: Setting = Setting::one(
    "region",
    "NAME",
    "The region of this cluster: other clusters of it are called before those that are elsewhere",
);
const REGISTER: Setting = Setting::switch(
    "register",
    "Tell the controller of this gateway by an EndpointSlice and a Lease of its own, where it runs outside a pod",
);
const TLS_CA: Setting = Setting::one("tls-ca", "FILE", "The set's root certificate (PEM)");
const TLS_CERT: Setting =
    Setting::one("tls-cert", "FILE", "The gateway's certificate, followed by its member's (PEM)");
const TLS_KEY: Setting =
    Setting::one("tls-key", "FILE", "The private key of the certificate (PEM)");

const TRACE_COLLECTOR: Setting = Setting::one(
    "trace-collector",
    "URL",
    "Send OpenTelemetry spans of calls to this collector (OTLP over HTTP), such as http://otel-collector.observability:4318 [default: none]",
);
const TRACE_ONE_IN: Setting = Setting::one(
    "trace-one-in",
    "N",
    "Of how many calls that begin here one has spans; those of peers have them where they have them there",
)
.or("100");

/// Validated.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) access_log_one_in: Option<NonZeroU32>,
    pub(crate) admin: SocketAddr,
    pub(crate) common: Common,
    pub(crate) hub: Hub,
    pub(crate) identity: Identity,
    pub(crate) link: SocketAddr,
    pub(crate) listen: Vec<IpAddr>,
    pub(crate) membership: Membership,
    pub(crate) name: Hostname,
    pub(crate) region: Option<RegionName>,
    pub(crate) register: bool,
    pub(crate) traces: Option<Traces>,
}

impl super::Settings for Settings {
    fn table() -> Vec<&'static Setting> {
        let own: [&Setting; 15] = [
            &NAME,
            &LISTEN,
            &LINK_LISTEN,
            &TLS_CERT,
            &TLS_KEY,
            &TLS_CA,
            &MEMBER_CERT,
            &MEMBER_KEY,
            &GENERATION,
            &REGION,
            &REGISTER,
            &ADMIN_LISTEN,
            &ACCESS_LOG_ONE_IN,
            &TRACE_COLLECTOR,
            &TRACE_ONE_IN,
        ];
        [&Common::TABLE[..], &Membership::TABLE, &own, &hub::TABLE].concat()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let common = Common::read(reader);
        let membership = Membership::read(reader);
        let name = reader.required(&NAME, Hostname::parse);
        let ipv6 = reader.has_ipv6();
        let listen = reader.some(&LISTEN, |text| value::ip_or_any(text, ipv6));
        let link = reader.optional(&LINK_LISTEN, |text| value::socket_or_any(text, ipv6));
        let issued = reader.is_given(&MEMBER_CERT) || reader.is_given(&MEMBER_KEY);
        let identity = if issued { issue(reader, name.as_ref()) } else { identity(reader) };
        let region = reader.optional(&REGION, RegionName::parse);
        let access_log_one_in =
            reader.optional(&ACCESS_LOG_ONE_IN, |text| value::number(text, u32::MAX));
        let collector = reader.optional(&TRACE_COLLECTOR, Collector::parse);
        let one_in = reader.required(&TRACE_ONE_IN, |text| value::number(text, u32::MAX));
        let hub = hub::read(reader, ipv6);
        let register = reader.required(&REGISTER, value::boolean);
        let admin = reader.optional(&ADMIN_LISTEN, |text| value::socket_or_any(text, ipv6));
        if let (Some(true), false) = (register, listen.is_empty()) {
            check_registration(reader, &listen, admin);
        }
        if let (Some(identity), Some(name), Some(membership)) = (&identity, &name, &membership) {
            let setting = if issued { &MEMBER_CERT } else { &TLS_CERT };
            check_identity(reader, setting, identity, name, membership);
        }
        let first = *listen.first()?;
        let of_admin = if listen.len() == 1 { first } else { every_address(&listen)? };
        Some(Self {
            access_log_one_in,
            admin: admin.unwrap_or_else(|| SocketAddr::new(of_admin, ADMIN_PORT)),
            common: common?,
            hub,
            identity: identity?,
            link: link.unwrap_or(SocketAddr::new(every_address(&listen)?, LINK_PORT)),
            listen,
            membership: membership?,
            name: name?,
            region,
            register: register?,
            traces: match collector {
                Some(collector) => Some(Traces { collector, one_in: one_in?.get() }),
                None => None,
            },
        })
    }
}

/// The unspecified address that takes in what each of these does; none where there are none.
fn every_address(like: &[IpAddr]) -> Option<IpAddr> {
    let v4_alone = like.iter().all(IpAddr::is_ipv4);
    let all: IpAddr =
        if v4_alone { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    (!like.is_empty()).then_some(all)
}

fn identity(reader: &mut Reader<'_>) -> Option<Identity> {
    let [chain, key, roots] = [&TLS_CERT, &TLS_KEY, &TLS_CA].map(|setting| file(reader, setting));
    let ((chain, first), (key, second), (roots, third)) = (chain?, key?, roots?);
    let source = Source::Gateway { chain, key, roots };
    made(&source, [first, second, third])
        .map_err(|error| {
            let remedy = "`landbridge pki gateway` makes the three files";
            reader.wrong(&TLS_CERT, format!("{error}: {remedy}"));
        })
        .ok()
}

/// An identity that the cluster's authority issues here and now.
fn issue(reader: &mut Reader<'_>, name: Option<&Hostname>) -> Option<Identity> {
    for setting in [&TLS_CERT, &TLS_KEY] {
        if reader.is_given(setting) {
            reader.wrong(setting, "is issued here with --member-key: leave out one of the two");
        }
    }
    let generation = reader.required(&GENERATION, generation);
    let [cert, key, roots] =
        [&MEMBER_CERT, &MEMBER_KEY, &TLS_CA].map(|setting| file(reader, setting));
    let ((cert, first), (key, second), (roots, third)) = (cert?, key?, roots?);
    let source = Source::Member { cert, key, roots, generation: generation?, name: name?.clone() };
    made(&source, [first, second, third])
        .map_err(|error| {
            let remedy = "`landbridge pki member` makes the three files";
            reader.wrong(&MEMBER_CERT, format!("{error}: {remedy}"));
        })
        .ok()
}

/// Where a file is, and what it holds now. It is read again when that has changed.
fn file(reader: &mut Reader<'_>, setting: &Setting) -> Option<(PathBuf, String)> {
    let path = reader.required(setting, value::path)?;
    let text = reader.file(setting, &path)?;
    Some((path, text))
}

fn made(source: &Source, texts: [String; 3]) -> Result<Identity, PkiError> {
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    source.identity(Texts(texts), now)
}

fn generation(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        "is not a number from 1: give the generation of the Member on the hub".to_owned()
    })
}

/// What a registered gateway tells the controller must be true: pods and the controller dial `listen`.
fn check_registration(reader: &mut Reader<'_>, listen: &[IpAddr], admin: Option<SocketAddr>) {
    let elsewhere = |admin: SocketAddr| {
        let here = |ip: &IpAddr| *ip == admin.ip();
        !admin.ip().is_unspecified() && !listen.iter().all(here)
    };
    if listen.iter().any(IpAddr::is_unspecified) {
        reader.wrong(
            &LISTEN,
            "cannot be registered: give the addresses at which pods reach this gateway",
        );
    } else if admin.is_some_and(|admin| admin.port() == 0) {
        reader.wrong(
            &ADMIN_LISTEN,
            "cannot be registered: give a port, so that the controller knows it",
        );
    } else if admin.is_some_and(elsewhere) {
        reader.wrong(
            &ADMIN_LISTEN,
            format!(
                "is not where the controller asks what is listened on: give {}, or leave it out",
                listen.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
            ),
        );
    }
}

/// A gateway that says one name and proves another is refused by every peer; that is better told here.
fn check_identity(
    reader: &mut Reader<'_>,
    setting: &Setting,
    identity: &Identity,
    name: &Hostname,
    membership: &Membership,
) {
    let id = identity.id();
    let cluster = membership.cluster.as_ref().unwrap_or(&id.cluster);
    let set = membership.set.as_ref().unwrap_or(&id.set);
    if (cluster, set, name) != (&id.cluster, &id.set, &id.gateway) {
        let message = format!(
            "is {id}, not one of gateway {name} of cluster {cluster} in set {set}: issue one with `landbridge pki`"
        );
        reader.wrong(setting, message);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use landbridge_gateway::pki::Root;
    use landbridge_model::{ClusterId, ClusterSetId, Timestamp};

    use super::*;
    use crate::config::{
        Flags, load,
        testing::{Given, load_text},
    };

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    /// Loads with the certificates of gateway gw-0 of paris in demo at /tls.crt, /tls.key and /ca.crt.
    fn check(arguments: &str) -> Result<Settings, String> {
        let root = Root::generate(&ClusterSetId::parse("demo").unwrap(), NOW).unwrap();
        let member = root.issue_member(&ClusterId::parse("paris").unwrap(), NOW).unwrap();
        let leaf = member.issue_gateway(1, &Hostname::parse("gw-0").unwrap(), NOW).unwrap();
        let given = Given {
            files: BTreeMap::from([
                ("/tls.crt".into(), leaf.chain_pem()),
                ("/tls.key".into(), leaf.key_pem()),
                ("/ca.crt".into(), root.cert_pem()),
                ("/member.pem".into(), member.cert_pem()),
                ("/member-key.pem".into(), member.key_pem()),
                ("/proc/net/if_inet6".into(), String::new()),
            ]),
            ..Given::default()
        };
        let files = if arguments.contains("--member") {
            ""
        } else {
            "--tls-cert=/tls.crt --tls-key=/tls.key"
        };
        let all = format!("test --tls-ca=/ca.crt {files} {arguments}");
        let flags = Flags::parse(all.split_whitespace().map(str::to_owned).collect()).unwrap();
        load(&flags, &given).map_err(|problems| problems.to_string())
    }

    #[test]
    fn name_address_and_certificates_are_enough() {
        let settings = check("--name=gw-0 --listen=10.244.1.10").unwrap();
        assert_eq!(settings.identity.cluster().as_str(), "paris");
        assert_eq!(settings.link.to_string(), "0.0.0.0:4433");
        assert_eq!(settings.admin.to_string(), "10.244.1.10:9403");
        assert!(!settings.register);
    }

    /// Pods have names and addresses that nobody knows beforehand.
    #[test]
    fn a_pod_listens_on_all_that_it_has_and_issues_its_own_certificate() {
        let member = "--member-cert=/member.pem --member-key=/member-key.pem";
        let pod = format!("--name=gw-7c9d --listen=any --generation=3 --cluster=paris {member}");
        let settings = check(&pod).unwrap();
        assert_eq!(
            settings.identity.id().to_string(),
            "spiffe://demo/cluster/paris/3/gateway/gw-7c9d"
        );
        let addresses = [settings.link, settings.admin].map(|address| address.to_string());
        assert_eq!(addresses, ["[::]:4433", "[::]:9403"]);

        let told = check(&format!("{pod} --tls-key=/tls.key")).unwrap_err();
        assert!(
            told.contains("--tls-key \"/tls.key\": is issued here with --member-key"),
            "{told}"
        );
        let told =
            check("--name=gw --listen=any --member-cert=/member.pem --generation=0").unwrap_err();
        assert!(told.contains("--member-key: is missing"), "{told}");
        assert!(told.contains("--generation \"0\": is not a number from 1"), "{told}");
        let told = check(&format!("--name=gw --listen=any --cluster=tokyo {member}")).unwrap_err();
        assert!(
            told.contains("--member-cert \"/member.pem\": is spiffe://demo/cluster/paris/1"),
            "{told}"
        );
    }

    #[test]
    fn a_gateway_of_two_families_is_asked_and_dialled_at_both() {
        let settings =
            check("--name=gw-0 --listen=10.244.1.10 --listen=fd00::10 --register").unwrap();
        assert_eq!(settings.listen.len(), 2);
        assert_eq!(settings.link.to_string(), "[::]:4433");
        assert_eq!(settings.admin.to_string(), "[::]:9403");
        let one = "--name=gw-0 --listen=10.244.1.10 --listen=fd00::10 --register --admin-listen=10.244.1.10:9403";
        let told = check(one).unwrap_err();
        assert!(told.contains("give 10.244.1.10 and fd00::10, or leave it out"), "{told}");
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let told = load_text::<Settings>("").unwrap_err();
        for name in ["name", "listen", "tls-cert", "tls-key", "tls-ca"] {
            assert!(told.contains(&format!("--{name}: is missing")), "{told}");
        }
        assert!(told.starts_with("5 settings are wrong"), "{told}");
    }

    #[test]
    fn a_certificate_of_somebody_else_is_told() {
        for wrong in [
            "--name=gw-1 --listen=::1",
            "--name=gw-0 --listen=::1 --cluster=tokyo",
            "--name=gw-0 --listen=::1 --cluster-set=prod",
        ] {
            let told = check(wrong).unwrap_err();
            assert!(
                told.contains("--tls-cert \"/tls.crt\": is spiffe://demo/cluster/paris/1/gateway/gw-0, not one of"),
                "{told}"
            );
        }
        let told = check("--name=gw-0 --listen=::1 --config=/tls.crt").unwrap_err();
        assert!(told.contains("is not a YAML mapping"), "{told}");
    }

    #[test]
    fn the_hub_is_told_where_its_api_is_and_a_member_how_it_gets_there() {
        let own = "--name=gw-0 --listen=10.244.1.10";
        let hub = check(&format!(
            "{own} --hub-api=kubernetes.default.svc:443 --authority=landbridge-authority.landbridge-system.svc:8443"
        ));
        let hub = hub.unwrap().hub;
        assert_eq!(hub.api.unwrap().to_string(), "kubernetes.default.svc:443");
        assert_eq!(hub.authority.unwrap().port(), 8443);
        assert_eq!(hub.through, None);
        let member =
            check(&format!("{own} --hub=paris --hub-listen=any:6443 --authority-listen=any:6444"));
        let through = member.unwrap().hub.through.unwrap();
        assert_eq!(through.cluster.as_str(), "paris");
        assert_eq!(through.api.unwrap().to_string(), "[::]:6443");
        assert_eq!(through.authority.unwrap().port(), 6444);
        for (wrong, says) in [
            ("--hub-api=https://paris", "--hub-api \"https://paris\": is no HOST:PORT"),
            ("--hub-listen=any:6443", "--hub-listen \"any:6443\": needs --hub"),
            ("--hub=paris", "--hub \"paris\": leads nowhere"),
            ("--hub=Paris --hub-listen=any:6443", "--hub \"Paris\""),
        ] {
            let told = check(&format!("{own} {wrong}")).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
    }

    #[test]
    fn a_file_that_is_no_certificate_is_told() {
        let told = load_text::<Settings>(
            "--name gw-0
             --listen ::1
             touch /a
             --tls-cert /a
             --tls-key /a
             --tls-ca /a",
        )
        .unwrap_err();
        assert!(
            told.contains("--tls-cert \"/a\": the certificate chain is not readable as PEM"),
            "{told}"
        );
    }

    #[test]
    fn only_an_address_that_can_be_dialled_is_registered() {
        let told = check("--name=gw-0 --listen=0.0.0.0 --register").unwrap_err();
        assert!(told.contains("--listen \"0.0.0.0\": cannot be registered"), "{told}");
        let told =
            check("--name=gw-0 --listen=::1 --register --admin-listen=127.0.0.1:1").unwrap_err();
        assert!(told.contains("is not where the controller asks"), "{told}");
        assert!(check("--name=gw-0 --listen=::1 --register --admin-listen=[::1]:1").is_ok());
    }
}
