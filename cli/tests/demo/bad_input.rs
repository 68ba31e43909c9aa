//! Bad objects, bad packets and strangers, against a whole clusterset: each is told as a condition, a log line or a
//! metric that names the culprit, and the rest goes on.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use landbridge_api::mcs::{ServiceExport, ServiceImport};
use landbridge_gateway::pki;
use landbridge_model::{ClusterId, ClusterSetId, Hostname, Timestamp};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use serde_json::json;

use crate::support::{PATIENCE, Staying, client, get, octet, resolve};

/// The demo, and what the tests need to know of it.
struct Stage {
    demo: Staying,
    exporter: Client,
    importer: Client,
    octet: u8,
}

impl Stage {
    async fn start() -> Self {
        let octet = octet(2);
        let demo = Staying::start(&["--loopback", &octet]);
        let folder = demo.folder();
        Self {
            exporter: client(&folder.join("paris.kubeconfig")).await,
            importer: client(&folder.join("berlin.kubeconfig")).await,
            octet: octet.parse().unwrap(),
            demo,
        }
    }

    /// An address of a cluster: 1 is paris, 3 is berlin.
    fn address(&self, cluster: u8, host: u8, port: u16) -> SocketAddr {
        (std::net::Ipv4Addr::new(127, self.octet + cluster, 0, host), port).into()
    }

    fn exports(&self) -> Api<ServiceExport> {
        Api::namespaced(self.exporter.clone(), "demo")
    }

    /// Creates a Service with one port, and its ServiceExport with this spec.
    async fn export(&self, name: &str, spec: serde_json::Value) {
        let services: Api<Service> = Api::namespaced(self.exporter.clone(), "demo");
        let service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 8080}]}});
        services
            .create(&PostParams::default(), &serde_json::from_value(service).unwrap())
            .await
            .unwrap();
        let export = json!({"metadata": {"name": name}, "spec": spec});
        self.exports()
            .create(&PostParams::default(), &serde_json::from_value(export).unwrap())
            .await
            .unwrap();
    }

    /// Waits until a condition of a ServiceExport has this status and says all of this.
    async fn condition(&self, name: &str, type_: &str, status: &str, says: &[&str]) {
        let begun = Instant::now();
        loop {
            let export = self.exports().get(name).await.unwrap();
            let found = export.conditions().iter().any(|condition| {
                let told = format!("{} {}", condition.reason, condition.message);
                condition.type_ == type_
                    && condition.status == status
                    && says.iter().all(|word| told.contains(word))
            });
            if found {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{name}: no {type_}={status} with {says:?}: {:?}",
                export.status
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The demo's own service is still called from the other cluster.
    async fn calls_go_on(&self) {
        let imports: Api<ServiceImport> = Api::namespaced(self.importer.clone(), "demo");
        let import = imports.get("echo").await.unwrap();
        let name = "echo.demo.svc.clusterset.local";
        let address = resolve(self.address(3, 53, 1053).ip(), 1053, name).await;
        assert_eq!(address.iter().map(ToString::to_string).collect::<Vec<_>>(), import.spec.ips);
        let target = (address[0], 8080).into();
        let told = tokio::task::spawn_blocking(move || get(target, "/")).await.unwrap();
        assert!(told.contains("\"cluster\":\"paris\""), "{told}");
    }

    /// Waits until a metric of a component has this label, or any where it is empty, and counts at least one.
    fn counted(&self, admin: SocketAddr, metric: &str, label: &str) {
        let begun = Instant::now();
        loop {
            let text = get(admin, "/metrics");
            let count =
                |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
            let mut lines =
                text.lines().filter(|line| line.starts_with(metric) && line.contains(label));
            if lines.any(|line| count(line) > Some(0.0)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{metric} does not count {label:?}:\n{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_hurts_only_itself_and_is_told() {
    let mut stage = Stage::start().await;
    objects(&stage).await;
    packets(&stage).await;
    strangers(&stage).await;
    stage.calls_go_on().await;
    assert!(stage.demo.interrupt().success());
}

/// Design, "Export": "What every importer's API would refuse (labels, hostnames) is refused here, at the source …
/// with a condition, and the export stands."
async fn objects(stage: &Stage) {
    stage.export("odd", json!({"exportedLabels": {"a bad key": "x", "good": "y"}})).await;
    stage.condition("odd", "Degraded", "True", &["a bad key"]).await;
    stage.condition("odd", "Ready", "True", &["Exported"]).await;

    let huge = BTreeMap::from([("note", "x".repeat(300 * 1024))]);
    stage.export("huge", json!({"exportedAnnotations": huge})).await;
    stage.condition("huge", "Degraded", "True", &["AnnotationsTooLarge", "307204 bytes"]).await;
    stage.condition("huge", "Ready", "True", &["Exported"]).await;

    // KEP-1645: a ServiceExport without its Service is not valid, reason NoService.
    let services: Api<Service> = Api::namespaced(stage.exporter.clone(), "demo");
    services.delete("odd", &DeleteParams::default()).await.unwrap();
    stage.condition("odd", "Valid", "False", &["NoService"]).await;

    // What the API itself takes for malformed never comes in.
    let patch = Patch::Merge(json!({"spec": {"exportedLabels": "all"}}));
    assert!(stage.exports().patch("huge", &PatchParams::default(), &patch).await.is_err());
    stage.calls_go_on().await;
}

async fn packets(stage: &Stage) {
    let dns = stage.address(3, 53, 1053);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 11, 12, 17, 512] {
        let noise: Vec<u8> =
            (0..length).map(|at| u8::try_from(at * 37 % 251).unwrap() & 0x7f).collect();
        socket.send_to(&noise, dns).unwrap();
    }
    let stage_admin = stage.address(3, 53, 8080);
    tokio::task::block_in_place(|| {
        stage.counted(stage_admin, "landbridge_dns_malformed_packets_total", "")
    });
    stage.calls_go_on().await;
}

/// A peer without a certificate, and one of another set.
async fn strangers(stage: &Stage) {
    let link = stage.address(1, 10, 4433);
    let admin = stage.address(1, 10, 8080);
    let refused = |label: &'static str| {
        tokio::task::block_in_place(|| {
            stage.counted(admin, "landbridge_gateway_handshake_refusals_total", label)
        });
    };
    assert!(dial(link, None).await.contains("certificate"), "a stranger must not get in");
    refused("no_certificate");

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap());
    let other = pki::Root::generate(&ClusterSetId::parse("other").unwrap(), now).unwrap();
    let member = other.issue_member(&ClusterId::parse("berlin").unwrap(), now).unwrap();
    let leaf = member.issue_gateway(1, &Hostname::parse("gw-0").unwrap(), now).unwrap();
    dial(link, Some((leaf.chain_pem(), leaf.key_pem()))).await;
    refused("unknown_issuer");
}

/// Dials a gateway as whoever holds a chain and key, or nobody, and tells how the connection ended.
async fn dial(link: SocketAddr, who: Option<(String, String)>) -> String {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match who {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain =
                CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
            builder
                .with_client_auth_cert(
                    chain,
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"landbridge/1".to_vec()];
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(
        QuicClientConfig::try_from(config).unwrap(),
    )));
    match endpoint.connect(link, "paris").unwrap().await {
        Err(error) => error.to_string(),
        // In TLS 1.3 the client is done before the server has judged it.
        Ok(connection) => {
            tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap().to_string()
        }
    }
}

/// Believes whatever a server shows: the one under test is whom we dial.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
