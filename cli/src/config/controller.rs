//! Pure: the settings of `landbridge controller`.

use std::{net::SocketAddr, time::Duration};

use landbridge_controller::Selector;
use landbridge_model::{GatewayAddress, Namespace, NetworkName};

use super::{
    common::{Common, Membership, Reach, reach},
    reader::Reader,
    setting::Setting,
    value,
};

/// A member is given up by the others after 10 s without a heartbeat: more than two must fit in that.
const MAX_HEARTBEAT: Duration = Duration::from_secs(4);
/// Each heartbeat is a write to the hub by every member: ten a second of each would be most of its load.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);

const ADMIN_LISTEN: Setting = Setting::one(
    "admin-listen",
    "IP:PORT",
    "Where /metrics, /healthz, /readyz and /debug/snapshot are served; any:PORT is every address",
)
.or("127.0.0.1:9401");
const ADVERTISE: Setting = Setting::list(
    "advertise",
    "IP:PORT",
    "Where other clusters' gateways reach this cluster's; none if it can only dial",
);
const AUTHORITY: Setting = Setting::one(
    "authority",
    "HOST:PORT",
    "Where the set's authority renews what makes this cluster a member, in the Secrets landbridge-member and landbridge-hub [default: nothing is renewed]",
);
const GENERATION: Setting =
    Setting::one("generation", "N", "How often the cluster has joined, for --authority").or("1");
const HEARTBEAT: Setting = Setting::one(
    "heartbeat",
    "DURATION",
    "How often to tell the hub that this cluster is alive, from 100ms to 4s",
)
.or("3s");
const HUB_CONTEXT: Setting = Setting::one(
    "hub-context",
    "NAME",
    "Context of the hub's kubeconfig [default: its current one]",
);
const HUB_KUBECONFIG: Setting = Setting::one(
    "hub-kubeconfig",
    "FILE",
    "How to reach the hub's Kubernetes API [default: this cluster is the hub]",
);
const NETWORK: Setting = Setting::one(
    "network",
    "NAME",
    "Clusters with the same network name reach each other's pods directly [default: the cluster's id, a network of its own]",
);
const IMPORT_NAMESPACES: Setting = Setting::list(
    "import-namespaces",
    "NAME",
    "Import services of these namespaces only [default: all that exist here]",
);
const IMPORT_NAMESPACE_SELECTOR: Setting = Setting::one(
    "import-namespace-selector",
    "SELECTOR",
    "Import services of namespaces with these labels only, such as team=red,!private [default: all that exist here]",
);
const MAX_DERIVED_SERVICES: Setting = Setting::one(
    "max-derived-services",
    "NUMBER",
    "How many Services may be made for imports; each takes a ClusterIP",
)
.or("2000");
const NAME: Setting = Setting::one(
    "name",
    "NAME",
    "What to call this controller where several serve one cluster [default: the machine's name]",
);
const REGION: Setting = Setting::one("region", "NAME", "The region of this cluster, for locality");

/// Validated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) admin: SocketAddr,
    pub(crate) advertise: Vec<GatewayAddress>,
    /// Where credentials are renewed.
    pub(crate) authority: Option<String>,
    pub(crate) common: Common,
    pub(crate) generation: u64,
    pub(crate) heartbeat: Duration,
    /// Absent where this cluster is the hub.
    pub(crate) hub: Option<Reach>,
    /// All where none are named.
    pub(crate) import_namespaces: Vec<Namespace>,
    /// Everything where it has no terms.
    pub(crate) import_namespace_selector: Selector,
    pub(crate) max_derived_services: usize,
    pub(crate) membership: Membership,
    /// The cluster's id where absent.
    pub(crate) network: Option<NetworkName>,
    pub(crate) region: Option<String>,
    /// What this controller is called; the machine's name where absent.
    pub(crate) replica: Option<String>,
}

impl super::Settings for Settings {
    fn table() -> Vec<&'static Setting> {
        let own: [&Setting; 13] = [
            &HUB_KUBECONFIG,
            &HUB_CONTEXT,
            &AUTHORITY,
            &GENERATION,
            &NETWORK,
            &ADVERTISE,
            &REGION,
            &HEARTBEAT,
            &IMPORT_NAMESPACES,
            &IMPORT_NAMESPACE_SELECTOR,
            &MAX_DERIVED_SERVICES,
            &NAME,
            &ADMIN_LISTEN,
        ];
        [&Common::TABLE[..], &Membership::TABLE, &own].concat()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let common = Common::read(reader);
        let membership = Membership::read(reader);
        let hub = reach(reader, &HUB_KUBECONFIG, &HUB_CONTEXT);
        let hub = if hub.kubeconfig.is_some() {
            Some(hub)
        } else {
            if hub.context.is_some() {
                reader.wrong(&HUB_CONTEXT, "names a context of no file: give --hub-kubeconfig too");
            }
            None
        };
        let authority = reader.optional(&AUTHORITY, host_and_port);
        let generation = reader.required(&GENERATION, generation);
        let network = reader.optional(&NETWORK, NetworkName::parse);
        let advertise = reader.list(&ADVERTISE, value::gateway_address);
        let region = reader.optional(&REGION, value::label_value);
        let import_namespaces = reader.list(&IMPORT_NAMESPACES, Namespace::parse);
        let selector = reader.optional(&IMPORT_NAMESPACE_SELECTOR, str::parse::<Selector>);
        let max_derived_services = reader.required(&MAX_DERIVED_SERVICES, number);
        let replica = reader.optional(&NAME, value::label_value);
        let heartbeat = reader.required(&HEARTBEAT, heartbeat);
        let ipv6 = reader.has_ipv6();
        let admin = reader.required(&ADMIN_LISTEN, |text| value::socket_or_any(text, ipv6));
        Some(Self {
            admin: admin?,
            advertise,
            authority,
            common: common?,
            generation: generation?,
            heartbeat: heartbeat?,
            hub,
            import_namespaces,
            import_namespace_selector: selector.unwrap_or_default(),
            max_derived_services: max_derived_services?,
            membership: membership?,
            network,
            region,
            replica,
        })
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "is not a number: give one such as 2000".to_owned())
}

fn generation(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "is not a generation: they count from 1".to_owned())
}

/// A name is looked up each time that it is dialled.
fn host_and_port(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let is_good = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    is_good.then(|| text.to_owned()).ok_or_else(|| {
        "is not a host and port: give both, such as landbridge-hub.landbridge-system.svc:6444"
            .to_owned()
    })
}

fn heartbeat(text: &str) -> Result<Duration, String> {
    let every = value::duration(text)?;
    if (MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&every) {
        Ok(every)
    } else {
        Err("is out of range: give 100ms to 4s, since a cluster silent for 10s is given up".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::load_text;

    #[test]
    fn nothing_is_required() {
        let settings = load_text::<Settings>("").unwrap();
        assert_eq!(settings.hub, None);
        assert_eq!((settings.network, settings.authority), (None, None));
        assert_eq!(settings.heartbeat, Duration::from_secs(3));
        assert_eq!(settings.membership.system_namespace.as_str(), "landbridge-system");
        assert!(settings.admin.ip().is_loopback());
    }

    #[test]
    fn every_setting_is_taken_from_its_place() {
        let settings = load_text::<Settings>(
            "touch /kube
             touch /hub
             --kubeconfig /kube
             --context paris
             --advertise 192.0.2.1:4433
             --advertise [2001:db8::1]:4433
             --authority landbridge-hub.landbridge-system.svc:6444
             --generation 7
             LANDBRIDGE_CLUSTER=paris
             LANDBRIDGE_CLUSTER_SET=demo
             LANDBRIDGE_HUB_KUBECONFIG=/hub
             LANDBRIDGE_HUB_CONTEXT=hub
\u{20}
network: a
region: eu-west-1
heartbeat: 500ms
name: controller-0
import-namespaces: [shop, bank]
import-namespace-selector: team in (red, blue)
max-derived-services: 10
system-namespace: lb
admin-listen: 127.0.0.2:1",
        )
        .unwrap();
        assert_eq!(
            settings.common.kubernetes,
            Reach { kubeconfig: Some("/kube".into()), context: Some("paris".into()) }
        );
        assert_eq!(
            settings.hub,
            Some(Reach { kubeconfig: Some("/hub".into()), context: Some("hub".into()) })
        );
        let told = format!(
            "{:?} {:?} {} {:?} {:?} {:?} {:?} {}",
            settings.membership.cluster,
            settings.membership.set,
            settings.membership.system_namespace,
            settings.network,
            settings.region,
            settings.heartbeat,
            settings.replica,
            settings.admin
        );
        assert_eq!(
            told,
            r#"Some("paris") Some("demo") lb Some("a") Some("eu-west-1") 500ms Some("controller-0") 127.0.0.2:1"#
        );
        let authority = settings.authority.as_deref().unwrap();
        assert_eq!(
            (authority, settings.generation),
            ("landbridge-hub.landbridge-system.svc:6444", 7)
        );
        let namespaces: Vec<_> = settings.import_namespaces.iter().map(Namespace::as_str).collect();
        assert_eq!((namespaces, settings.max_derived_services), (vec!["shop", "bank"], 10));
        assert_eq!(settings.import_namespace_selector, "team in (red,blue)".parse().unwrap());
        let advertised: Vec<_> = settings.advertise.iter().map(ToString::to_string).collect();
        assert_eq!(advertised, ["192.0.2.1:4433", "[2001:db8::1]:4433"]);
    }

    #[test]
    fn every_wrong_setting_is_told_at_once() {
        let told = load_text::<Settings>(
            "--cluster Paris
             --advertise 0.0.0.0:4433
             --authority hub
             --generation 0
             --heartbeat 5s
             --hub-context a
             --import-namespace-selector =red,team of (a)
             --kubeconfig /nowhere
             LANDBRIDGE_LOG=landbridge=loud
             LANDBRIDGE_LOG_FORMAT=xml
             LANDBRIDGE_REGION=a b",
        )
        .unwrap_err();
        for culprit in [
            "11 settings are wrong",
            "--authority \"hub\": is not a host and port",
            "--generation \"0\": is not a generation",
            "--cluster \"Paris\": cluster id \"Paris\" is not valid: use lower-case",
            "--advertise \"0.0.0.0:4433\": cannot be dialled by others",
            "--heartbeat \"5s\": is out of range",
            "--import-namespace-selector \"=red,team of (a)\": is no label selector: \"=red\" does not name a label",
            "\"team of (a)\" has a set without",
            "--hub-context \"a\": names a context of no file",
            "--kubeconfig \"/nowhere\": cannot be read",
            "LANDBRIDGE_LOG=\"landbridge=loud\":",
            "LANDBRIDGE_LOG_FORMAT=\"xml\": is not a format",
            "LANDBRIDGE_REGION=\"a b\": use at most 63",
        ] {
            assert!(told.contains(culprit), "{culprit} is not in {told}");
        }
    }
}
