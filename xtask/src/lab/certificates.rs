//! Who is who in a cluster: its authority, what its API server shows, and what its users have.
//!
//! Made anew for each lab. No certificate of ours outlives its lab, so they are good for as long as anybody would leave
//! one standing.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::{files::Pair, plan::ClusterPlan};

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Users with a kubeconfig of their own: the file, the name, the group.
const USERS: &[(&str, &str, &str)] = &[
    ("admin", "kubernetes-admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("coredns", "system:coredns", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("scheduler", "system:kube-scheduler", ""),
];

/// Everything that is made for one cluster.
pub(crate) struct Certificates {
    pub(crate) ca: Pair,
    /// What the API server shows.
    pub(crate) api_server: Pair,
    /// What the API server is to a kubelet.
    pub(crate) kubelet_client: Pair,
    /// What service account tokens are signed with and checked by.
    pub(crate) accounts: Pair,
    /// By the name of the file.
    pub(crate) users: BTreeMap<&'static str, Pair>,
}

impl Certificates {
    pub(crate) fn generate(cluster: &ClusterPlan) -> Result<Self, Error> {
        let authority = Authority::generate(&format!("{}-ca", cluster.name))?;
        let mut users = BTreeMap::new();
        for (file, name, group) in USERS {
            users.insert(*file, authority.client(name, group)?);
        }
        let node = format!("system:node:{}", cluster.node());
        users.insert("kubelet", authority.client(&node, "system:nodes")?);
        let accounts = KeyPair::generate()?;
        Ok(Self {
            api_server: authority.server(&names(cluster), &addresses(cluster))?,
            kubelet_client: authority.client("kube-apiserver", "system:masters")?,
            accounts: Pair { cert: accounts.public_key_pem(), key: accounts.serialize_pem() },
            users,
            ca: authority.pair,
        })
    }
}

/// What people and pods call an API server.
fn names(cluster: &ClusterPlan) -> Vec<String> {
    let services = ["", ".default", ".default.svc", ".default.svc.cluster.local"];
    let services = services.map(|rest| format!("kubernetes{rest}"));
    services.into_iter().chain([cluster.node(), "localhost".into()]).collect()
}

fn addresses(cluster: &ClusterPlan) -> Vec<IpAddr> {
    let v4 = [cluster.v4.node, cluster.v4.api_service, std::net::Ipv4Addr::LOCALHOST];
    let v6 = cluster.v6.iter().flat_map(|v6| [v6.node, v6.api_service]);
    v4.into_iter().map(IpAddr::from).chain(v6.map(IpAddr::from)).collect()
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pair: Pair,
}

impl Authority {
    fn generate(name: &str) -> Result<Self, Error> {
        let mut params = params(name, "");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?.pem();
        let pair = Pair { cert, key: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(params, key), pair })
    }

    fn client(&self, name: &str, group: &str) -> Result<Pair, Error> {
        let mut params = params(name, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn server(&self, names: &[String], addresses: &[IpAddr]) -> Result<Pair, Error> {
        let mut params = params("kube-apiserver", "");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { cert, key: key.serialize_pem() })
    }
}

fn params(name: &str, group: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if !group.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A machine whose clock is before 1970 has other worries.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + DAY * 365;
    params
}
