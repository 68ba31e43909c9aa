//! `landbridge token`: by what a cluster joins the set: made, listed, taken back. All is kept on the hub.

mod shown;

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use kube::{Api, Client};
use landbridge_api::{convert, landbridge::Member};
use landbridge_gateway::join::{
    StoreError, Tokens,
    record::Record,
    token::{MAX_ADDRESSES, Token, TokenSecret},
    trust,
};
use landbridge_model::{ClusterId, GatewayAddress, Timestamp};

use self::shown::Issued;
use super::{
    api::ApiArguments,
    component::runtime,
    output::{Format, print, render},
};
use crate::{
    config::value,
    exit::Usage,
    kubernetes::{self, answered},
};

/// Shorter than this nobody can paste it; longer than a day it lies about.
const LIFETIMES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(24 * 60 * 60)];

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a new token. It lets one cluster in, once; the hub keeps its hash alone.
    Issue {
        #[command(flatten)]
        hub: ApiArguments,
        #[command(flatten)]
        asked: Asked,
        /// Print what the token holds beside it, for a program.
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// List tokens, and what became of them, for a day after their end.
    List {
        #[command(flatten)]
        hub: ApiArguments,
        /// Print them for a program.
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// Take a token back: it lets nobody in any more.
    Revoke {
        #[command(flatten)]
        hub: ApiArguments,
        /// What `landbridge token list` calls it.
        id: String,
    },
}

#[derive(clap::Args, Debug)]
struct Asked {
    /// The id that the new cluster has to have [default: any].
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
    /// Where the new cluster dials the hub's gateways [default: as the hub's Member says].
    #[arg(long = "address", value_name = "IP:PORT", value_parser = value::gateway_address)]
    addresses: Vec<GatewayAddress>,
    /// How long it lasts, from 1m to 1440m.
    #[arg(long, value_name = "DURATION", default_value = "60m", value_parser = lifetime)]
    lasts: Duration,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let [least, most] = LIFETIMES;
    let asked = value::duration(text)?;
    (least..=most)
        .contains(&asked)
        .then_some(asked)
        .ok_or_else(|| "is out of range: give 1m to 1440m, such as 60m".into())
}

/// Does it, and says what was done.
///
/// # Errors
/// A hub that cannot be reached or is none, and a token that is not there.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let text = runtime()?.block_on(answered(async {
        match &arguments.what {
            What::Issue { hub, asked, output } => {
                let client = hub.client().await?;
                let issued = issue(&client, asked, now()).await.map_err(not_a_hub)?;
                match output {
                    Some(format) => render(*format, &issued.described()),
                    None => {
                        // Beside the token, so that it can be piped. Nobody may be listening.
                        let _ = write!(io::stderr(), "{}", issued.told());
                        Ok(format!("{}\n", issued.token))
                    }
                }
            }
            What::List { hub, output } => {
                let all = Tokens::new(hub.client().await?).list().await?;
                match output {
                    Some(format) => render(*format, &shown::described(&all, now())),
                    None => Ok(shown::list(&all, now())),
                }
            }
            What::Revoke { hub, id } => {
                let revoked = Tokens::new(hub.client().await?).revoke(id).await?;
                let remedy = "see `landbridge token list`";
                let revoked =
                    revoked.ok_or_else(|| Usage(format!("there is no token {id}: {remedy}")))?;
                Ok(shown::revoked(&revoked))
            }
        }
    }))?;
    print(out, &text)
}

async fn issue(client: &Client, asked: &Asked, now: Timestamp) -> Result<Issued> {
    let tokens = Tokens::new(client.clone());
    let root = tokens.root().await?;
    let Some(hub) = kubernetes::cluster_id(client).await? else {
        let problem = "the hub does not say what it is called";
        return Err(
            Usage(format!("{problem}: create ClusterProperty cluster.clusterset.k8s.io")).into()
        );
    };
    let addresses = addresses(client, &hub, asked).await?;
    let secret = TokenSecret::new(random()?);
    let lasts = i64::try_from(asked.lasts.as_millis())?;
    let expires = Timestamp::from_millis(now.as_millis() + lasts);
    let record = Record {
        hash: secret.hash(),
        cluster: asked.cluster.clone(),
        issued: now,
        expires,
        used: None,
    };
    tokens.issue(&secret, &record, now).await?;
    let token = Token {
        set: root.set().clone(),
        hub,
        cluster: asked.cluster.clone(),
        addresses,
        root: trust::fingerprint(&root.cert_pem())?,
        expires,
        secret,
    };
    Ok(Issued { token })
}

/// Where the new cluster dials: as it was said, else where all other members do.
async fn addresses(client: &Client, hub: &ClusterId, asked: &Asked) -> Result<Vec<GatewayAddress>> {
    let addresses = if asked.addresses.is_empty() {
        let members: Api<Member> = Api::all(client.clone());
        let what = || format!("Member {hub}");
        let member = members.get_opt(hub.as_str()).await.with_context(what)?;
        let peer = member.map(|member| convert::member_peer(&member)).transpose()?;
        peer.map(|peer| peer.gateways).unwrap_or_default()
    } else {
        asked.addresses.clone()
    };
    if addresses.is_empty() {
        return Err(Usage(format!(
            "the gateways of {hub} tell no address, so that the new cluster has nowhere to dial: say it with --address, and to other members with --advertise"
        ))
        .into());
    }
    Ok(addresses.into_iter().take(MAX_ADDRESSES).collect())
}

/// Whoever asks another cluster than the hub is told how to ask the hub.
fn not_a_hub(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::NoRoot) => {
            let remedy = "name the hub's API with --context or --kubeconfig; docs/joining.md tells how a cluster becomes a hub";
            Usage(format!("{error}: {remedy}")).into()
        }
        _ => error,
    }
}

/// By chance, from what keys are made of.
pub(super) fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let filled = provider.secure_random.fill(&mut bytes);
    filled.map_err(|_| anyhow::anyhow!("this machine gives no random numbers"))?;
    Ok(bytes)
}

fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

#[test]
fn a_token_lasts_a_minute_to_a_day() {
    assert_eq!(lifetime("60m"), Ok(Duration::from_secs(3600)));
    assert_eq!(lifetime("1440m"), Ok(LIFETIMES[1]));
    for text in ["59s", "1441m", "0m"] {
        assert!(lifetime(text).unwrap_err().contains("1m to 1440m"), "{text}");
    }
    assert!(lifetime("soon").unwrap_err().contains("not a length of time"));
}
