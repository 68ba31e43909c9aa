//! Pure: the settings that every component has, and those that say which member it belongs to.

use std::path::PathBuf;

use landbridge_model::{ClusterId, ClusterSetId, Namespace};

use super::{reader::Reader, setting::Setting, value};
use crate::telemetry::{Filter, Format, Telemetry};

/// The file of settings. It is read first and cannot name another.
pub(super) const CONFIG: Setting =
    Setting::one("config", "FILE", "YAML file with any of these settings, by the same names");
const CONTEXT: Setting =
    Setting::one("context", "NAME", "Context of the kubeconfig [default: its current one]");
const KUBECONFIG: Setting = Setting::one(
    "kubeconfig",
    "FILE",
    "How to reach this cluster's Kubernetes API [default: KUBECONFIG, ~/.kube/config, then the pod's service account]",
);
const LOG: Setting = Setting::one(
    "log",
    "FILTER",
    "What to log: error, warn, info, debug, trace or off, also by module, such as info,landbridge_dns=debug",
)
.or("info");
const LOG_FORMAT: Setting =
    Setting::one("log-format", "text|json", "How to log, on standard error").or("text");

const CLUSTER: Setting = Setting::one(
    "cluster",
    "ID",
    "Id of this cluster in its set [default: its ClusterProperty cluster.clusterset.k8s.io]",
);
const CLUSTER_SET: Setting = Setting::one(
    "cluster-set",
    "NAME",
    "Name of the clusterset [default: the ClusterProperty clusterset.k8s.io]",
);
const SYSTEM_NAMESPACE: Setting =
    Setting::one("system-namespace", "NAMESPACE", "Where Landbridge itself lives in this cluster")
        .or(landbridge_api::wellknown::SYSTEM_NAMESPACE);

/// How a Kubernetes API is reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reach {
    /// The kubeconfig; what kubectl would use, or the pod's service account, where absent.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// One of its contexts; the current one where absent.
    pub(crate) context: Option<String>,
}

/// What every component needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Common {
    /// This cluster's Kubernetes API.
    pub(crate) kubernetes: Reach,
    /// What is logged, and how.
    pub(crate) telemetry: Telemetry,
}

impl Common {
    pub(super) const TABLE: [&Setting; 5] = [&CONFIG, &KUBECONFIG, &CONTEXT, &LOG, &LOG_FORMAT];

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let kubernetes = reach(reader, &KUBECONFIG, &CONTEXT);
        let filter = reader.required(&LOG, Filter::parse);
        let format = reader.required(&LOG_FORMAT, Format::parse);
        Some(Self { kubernetes, telemetry: Telemetry { filter: filter?, format: format? } })
    }
}

/// Which member a component belongs to, as far as it was told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Membership {
    /// Its id; to be read from the cluster where absent.
    pub(crate) cluster: Option<ClusterId>,
    /// Its set; to be read from the cluster where absent.
    pub(crate) set: Option<ClusterSetId>,
    /// Where Landbridge lives in it.
    pub(crate) system_namespace: Namespace,
}

impl Membership {
    pub(super) const TABLE: [&Setting; 3] = [&CLUSTER, &CLUSTER_SET, &SYSTEM_NAMESPACE];

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let cluster = reader.optional(&CLUSTER, ClusterId::parse);
        let set = reader.optional(&CLUSTER_SET, ClusterSetId::parse);
        let system_namespace = reader.required(&SYSTEM_NAMESPACE, Namespace::parse);
        Some(Self { cluster, set, system_namespace: system_namespace? })
    }
}

/// Reads how an API is reached. That the file is there is checked with everything else; what it says, when it is used.
pub(super) fn reach(reader: &mut Reader<'_>, kubeconfig: &Setting, context: &Setting) -> Reach {
    let path = reader.optional(kubeconfig, value::path);
    if let Some(path) = &path {
        reader.file(kubeconfig, path);
    }
    Reach { kubeconfig: path, context: reader.optional(context, value::text) }
}
