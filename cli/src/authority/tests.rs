//! The authority over an embedded API, with streams in memory: who is refused, and with what to do. Whom it lets in is seen on
//! real API servers, in `cli/tests/hub`: what it writes then is applied by the server.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use landbridge_api::landbridge::{Member, MemberSpec};
use landbridge_embedded::{Cluster, ClusterConfig};
use landbridge_gateway::{
    join::{
        Tokens,
        authority::{self, Known},
        message::{self, Answer, JOIN, Join, RENEW, Renew},
        record::Record,
        token::TokenSecret,
        trust,
    },
    pki::{self, Leaf, MemberKey, Root},
};
use landbridge_model::Timestamp;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{Authority, Place, serve};
use crate::enroll::ask::{AskError, ask};

const HOUR: i64 = 3_600_000;

fn now() -> Timestamp {
    super::now()
}

fn after(millis: i64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() + millis)
}

/// A hub with one member beside it, berlin, of generation 2.
struct Hub {
    // Dropped, it ends.
    _cluster: Cluster,
    client: Client,
    authority: Authority,
    counts: serve::Counts,
    root: Root,
}

impl Hub {
    async fn new() -> Self {
        let config = ClusterConfig {
            name: "paris".into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            service_range_v4: "127.96.0.0/24".parse().unwrap(),
            service_range_v6: None,
            crds: landbridge_api::crds::all(),
        };
        let cluster = Cluster::start(config).await.unwrap();
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&cluster.kubeconfig()).unwrap();
        let client = crate::kubernetes::client_from(kubeconfig, None).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &trust::namespace()).await.unwrap();
        let root = Root::generate(&"prod".parse().unwrap(), now()).unwrap();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "landbridge-trust");
        secrets.create(&PostParams::default(), &trust::to_secret(&root)).await.unwrap();
        let members: Api<Member> = Api::all(client.clone());
        for (name, generation) in [("paris", 1), ("berlin", 2)] {
            let spec = MemberSpec { generation, network: name.into(), ..MemberSpec::default() };
            members.create(&PostParams::default(), &Member::new(name, spec)).await.unwrap();
        }
        let [ca, server_name] = ["CA", "kubernetes.default.svc"].map(str::to_owned);
        let place = Place { cluster: "paris".parse().unwrap(), ca, server_name };
        let authority = Authority::new(client.clone(), place);
        let counts = serve::Counts::new(&mut Registry::default());
        Self { _cluster: cluster, client, authority, counts, root }
    }

    /// A token that ends in so many milliseconds.
    async fn issue(&self, byte: u8, cluster: Option<&str>, lasts: i64) -> TokenSecret {
        let secret = TokenSecret::new([byte; 32]);
        let record = Record {
            hash: secret.hash(),
            cluster: cluster.map(|id| id.parse().unwrap()),
            issued: after(-HOUR),
            expires: after(lasts),
            used: None,
        };
        Tokens::new(self.client.clone()).issue(&secret, &record, now()).await.unwrap();
        secret
    }

    async fn ask<T: serde::Serialize>(
        &self,
        path: &str,
        leaf: Option<&Leaf>,
        question: &T,
    ) -> Result<Answer, AskError> {
        let (near, far) = duplex(64 << 10);
        let known = Known::Fingerprint(trust::fingerprint(&self.root.cert_pem()).unwrap());
        let set = "prod".parse().unwrap();
        let asked = async {
            ask(authority::connect(near, &known, &set, leaf).await?, path, question).await
        };
        let served = Box::pin(serve::converse(&self.authority, &self.counts, far));
        tokio::join!(Box::pin(asked), served).0
    }

    /// Why it is refused, and with which status.
    async fn refused<T: serde::Serialize>(
        &self,
        path: &str,
        leaf: Option<&Leaf>,
        question: &T,
    ) -> (u16, String) {
        match self.ask(path, leaf, question).await.unwrap_err() {
            AskError::Refused { status, refused } => {
                (status, format!("{}: {}", refused.error, refused.remedy))
            }
            other => panic!("{other}"),
        }
    }

    fn leaf(&self, cluster: &str, generation: u64) -> Leaf {
        let member = self.root.issue_member(&cluster.parse().unwrap(), now()).unwrap();
        member.issue_gateway(generation, &"keeper".parse().unwrap(), now()).unwrap()
    }
}

fn join(secret: &TokenSecret, cluster: &str, uid: &str) -> Join {
    Join {
        secret: message::Secret::from(secret),
        cluster: cluster.into(),
        uid: uid.into(),
        network: "europe".into(),
        csr: MemberKey::generate().unwrap().request().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_to_be_let_in_is_told_why() {
    let hub = Hub::new().await;
    let open = hub.issue(1, None, HOUR).await;
    let ended = hub.issue(2, None, -1).await;
    let bound = hub.issue(3, Some("rome"), HOUR).await;
    let guess = TokenSecret::new([9; 32]);
    for (question, status, told) in [
        (join(&guess, "tokyo", "u1"), 403, "the hub knows no such token"),
        (join(&ended, "tokyo", "u1"), 403, "the token ended at 20"),
        (join(&bound, "tokyo", "u1"), 403, "the token is for cluster rome, not for tokyo"),
        (join(&open, "paris", "u1"), 409, "paris is the id of the hub's own cluster"),
        (join(&open, "berlin", "u1"), 409, "berlin is a member of the set already: give this"),
        (join(&open, "Tokyo", "u1"), 400, "cluster: "),
        (Join { csr: "x".into(), ..join(&open, "tokyo", "u1") }, 400, "csr: "),
    ] {
        let (found, said) = hub.refused(JOIN, None, &question).await;
        assert!(found == status && said.starts_with(told), "{found} {said}");
    }
    // Whoever guesses learns nothing of who is a member.
    let (status, _) = hub.refused(JOIN, None, &join(&guess, "berlin", "u1")).await;
    assert_eq!(status, 403);
    // None of it has used a token up.
    let all = Tokens::new(hub.client.clone()).list().await.unwrap();
    assert!(all.iter().all(|one| one.record.as_ref().unwrap().used.is_none()));
}

/// "a member can't … replay a token": not even with all that others can know of a cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_used_lets_in_nobody_but_the_key_it_has_let_in() {
    let hub = Hub::new().await;
    let secret = hub.issue(1, None, HOUR).await;
    let first = join(&secret, "tokyo", "u1");
    // The embedded API takes no apply: the token is used up, and the hub cannot go on.
    let (status, _) = hub.refused(JOIN, None, &first).await;
    assert_eq!(status, 503);
    let again = join(&secret, "tokyo", "u1");
    let (status, told) = hub.refused(JOIN, None, &again).await;
    assert!(status == 403 && told.starts_with("tokyo has used the token at 20"), "{told}");
    let (status, _) = hub.refused(JOIN, None, &first).await;
    assert_eq!(status, 503, "the same key may ask again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_member_that_is_listed_renews_what_it_has() {
    let hub = Hub::new().await;
    let renew = Renew::default();
    let (status, told) = hub.refused(RENEW, None, &renew).await;
    assert!(status == 401 && told.contains("join with a token first"), "{told}");
    let (status, told) = hub.refused(RENEW, Some(&hub.leaf("berlin", 1)), &renew).await;
    assert!(status == 403 && told.contains("generation 2 counts, not 1"), "{told}");
    let (status, told) = hub.refused(RENEW, Some(&hub.leaf("tokyo", 1)), &renew).await;
    assert!(status == 403 && told.contains("tokyo is no member of the set any more"), "{told}");
    let csr = Renew { csr: Some("x".into()), ..Renew::default() };
    let (status, _) = hub.refused(RENEW, Some(&hub.leaf("berlin", 2)), &csr).await;
    assert_eq!(status, 400);
    // A root of another set that goes by the same name.
    let stranger = Root::generate(&"prod".parse().unwrap(), now()).unwrap();
    let stranger = stranger.issue_member(&"berlin".parse().unwrap(), now()).unwrap();
    let stranger = stranger.issue_gateway(2, &"keeper".parse().unwrap(), now()).unwrap();
    assert!(matches!(hub.ask(RENEW, Some(&stranger), &renew).await, Err(AskError::Lost(_))));
    // It goes when its Member goes.
    let members: Api<Member> = Api::all(hub.client.clone());
    members.delete("berlin", &DeleteParams::default()).await.unwrap();
    let (status, _) = hub.refused(RENEW, Some(&hub.leaf("berlin", 2)), &renew).await;
    assert_eq!(status, 403);
}

/// The hub's own controller comes to its API by its own account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hubs_own_cluster_renews_its_authority_and_needs_no_token() {
    let hub = Hub::new().await;
    let key = MemberKey::generate().unwrap();
    let root = trust::fingerprint(&hub.root.cert_pem()).unwrap().to_string();
    let renew = Renew {
        csr: Some(key.request().unwrap()),
        roots: vec![root.clone(), "<b>".into()],
        signer: Some(root.clone()),
    };
    let answer = hub.ask(RENEW, Some(&hub.leaf("paris", 1)), &renew).await.unwrap();
    assert!(answer.hub.token.is_none());
    assert_eq!((answer.signer, answer.roots), (root.clone(), hub.root.cert_pem()));
    let member = pki::Member::from_pem(&answer.chain.unwrap(), &key.to_pem()).unwrap();
    assert_eq!(member.cluster().as_str(), "paris");
    // Whoever changes roots sees who trusts which.
    let members: Api<Member> = Api::all(hub.client.clone());
    let annotations = members.get("paris").await.unwrap().metadata.annotations.unwrap();
    assert_eq!(annotations["landbridge.dev/trusted-roots"], root);
    assert_eq!(annotations["landbridge.dev/signed-by"], root);
}

/// Whatever is sent, one connection ends and the next one is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_no_question_at_all_is_refused() {
    let hub = Hub::new().await;
    let large = "x".repeat(message::MAX_BODY);
    let (status, told) = hub.refused(JOIN, None, &large).await;
    assert!(status == 413 && told.contains("length limit"), "{told}");
    let (status, told) = hub.refused(JOIN, None, &vec![1, 2]).await;
    assert!(status == 400 && !told.contains("[1"), "{told}");
    let (status, _) = hub.refused("/v1/other", None, &0).await;
    assert_eq!(status, 400);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], b""] {
        let (mut near, far) = duplex(1 << 10);
        let send = async move {
            near.write_all(garbage).await.unwrap();
            near.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = near.read_to_end(&mut rest).await;
        };
        let served = Box::pin(serve::converse(&hub.authority, &hub.counts, far));
        let (_, served) =
            tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(send, served) })
                .await
                .unwrap();
        assert!(served.is_err());
    }
    let (status, _) = hub.refused(RENEW, None, &Renew::default()).await;
    assert_eq!(status, 401);
}
