//! Join tokens on a hub, the same cases for every API server: of what is kept of them, and of who is let in when several
//! show the same one. Every case has a token of its own, so that all run at once on one server.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Client,
    api::{Api, PostParams},
};
use landbridge_gateway::{
    join::{
        StoreError, Tokens,
        record::{Claim, Record, Refusal, State, secret_name},
        token::{Fingerprint, TokenSecret},
        trust,
    },
    pki::Root,
};
use landbridge_model::{ClusterId, Timestamp};

/// Lists the cases for one server; the second argument starts it and returns something with a `client()`.
macro_rules! tokens {
    ($server:ident, $start:path) => {
        mod $server {
            $crate::battery::tokens::tokens!(@cases $start,
                of_many_who_show_a_token_one_is_let_in
                an_answer_that_was_lost_can_be_had_again
                what_was_taken_back_lets_nobody_in
                a_token_of_yesterday_is_forgotten
                a_cluster_is_a_hub_once_it_has_a_root
            );
        }
    };
    (@cases $start:path, $($case:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let server = $start().await;
                $crate::battery::tokens::$case(server.client()).await;
            }
        )+
    };
}
pub(crate) use tokens;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const HOUR: i64 = 3_600_000;

fn after(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis)
}

fn claim(cluster: &str) -> Claim {
    let key = Fingerprint::of(cluster.as_bytes());
    Claim { cluster: ClusterId::parse(cluster).unwrap(), key }
}

/// The hub's trust, and a token that is known by `byte`.
async fn issued(client: &Client, byte: u8) -> (Tokens, TokenSecret) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.create(&PostParams::default(), &trust::namespace()).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        made => drop(made.unwrap()),
    }
    let (tokens, secret) = (Tokens::new(client.clone()), TokenSecret::new([byte; 32]));
    let record = Record {
        hash: secret.hash(),
        cluster: None,
        issued: NOW,
        expires: after(HOUR),
        used: None,
    };
    tokens.issue(&secret, &record, NOW).await.unwrap();
    (tokens, secret)
}

async fn state(tokens: &Tokens, secret: &TokenSecret) -> Option<State> {
    let all = tokens.list().await.unwrap();
    let listed = all.into_iter().find(|listed| listed.id == secret.id())?;
    Some(listed.record.unwrap().state(NOW))
}

/// "single-use": whoever comes first, and nobody else, however close they are.
pub(crate) async fn of_many_who_show_a_token_one_is_let_in(client: Client) {
    let (tokens, secret) = issued(&client, 1).await;
    assert_eq!(state(&tokens, &secret).await, Some(State::Open));
    let claims = (0..8).map(|number| {
        let (tokens, secret) = (tokens.clone(), secret.clone());
        async move { tokens.take(&secret, &claim(&format!("c{number}")), after(1)).await }
    });
    let answers = futures::future::join_all(claims).await;
    let used = |record: &Record| record.used.as_ref().unwrap().by.clone();
    let let_in: Vec<ClusterId> = answers.iter().flatten().map(used).collect();
    assert_eq!(let_in.len(), 1, "{answers:?}");
    for answer in answers.into_iter().filter_map(Result::err) {
        let StoreError::Refused(Refusal::Used { by, .. }) = answer else { panic!("{answer}") };
        assert_eq!(by, let_in[0]);
    }
    assert_eq!(state(&tokens, &secret).await, Some(State::Used));
}

/// A link may be lost with the answer on it.
pub(crate) async fn an_answer_that_was_lost_can_be_had_again(client: Client) {
    let (tokens, secret) = issued(&client, 2).await;
    let first = tokens.take(&secret, &claim("berlin"), after(1)).await.unwrap();
    let again = tokens.take(&secret, &claim("berlin"), after(2)).await.unwrap();
    assert_eq!(first, again);
    let late = tokens.take(&secret, &claim("berlin"), after(HOUR)).await.unwrap_err();
    assert!(matches!(late, StoreError::Refused(Refusal::Expired { .. })), "{late}");
}

pub(crate) async fn what_was_taken_back_lets_nobody_in(client: Client) {
    let (tokens, secret) = issued(&client, 3).await;
    assert!(tokens.revoke(&secret.id()).await.unwrap().is_some());
    assert!(tokens.revoke(&secret.id()).await.unwrap().is_none());
    let refused = tokens.take(&secret, &claim("berlin"), after(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(Refusal::Unknown)), "{refused}");
    // Whoever guesses is told the same.
    let guess = TokenSecret::new([0xfe; 32]);
    let refused = tokens.take(&guess, &claim("berlin"), after(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(Refusal::Unknown)), "{refused}");
}

pub(crate) async fn a_token_of_yesterday_is_forgotten(client: Client) {
    let (tokens, secret) = issued(&client, 4).await;
    let old = Record {
        hash: secret.hash(),
        cluster: None,
        issued: after(-30 * HOUR),
        expires: after(-25 * HOUR),
        used: None,
    };
    let name = secret_name(&secret.id());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "landbridge-trust");
    let mut object = old.to_secret(&secret.id());
    object.metadata.resource_version = secrets.get(&name).await.unwrap().metadata.resource_version;
    secrets.replace(&name, &PostParams::default(), &object).await.unwrap();
    issued(&client, 5).await;
    assert_eq!(state(&tokens, &secret).await, None);
    assert!(secrets.get_opt(&name).await.unwrap().is_none());
}

pub(crate) async fn a_cluster_is_a_hub_once_it_has_a_root(client: Client) {
    let (tokens, _) = issued(&client, 6).await;
    let told = tokens.root().await.unwrap_err();
    assert!(matches!(told, StoreError::NoRoot), "{told}");
    let root = Root::generate(&"prod".parse().unwrap(), NOW).unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, "landbridge-trust");
    secrets.create(&PostParams::default(), &trust::to_secret(&root)).await.unwrap();
    assert_eq!(tokens.root().await.unwrap().cert_pem(), root.cert_pem());
}
