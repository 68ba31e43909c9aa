//! `landbridge pki`: the certificates of a set as files, for gateways that join by hand.

mod files;

use std::{
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::Subcommand;
use landbridge_gateway::pki::{Member, Root};
use landbridge_model::{ClusterId, ClusterSetId, Hostname, Timestamp};
use serde::Serialize;

use self::files::{File, write};
use super::output::{Format, print, render};
use crate::exit::Usage;

const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root-key.pem";
const MEMBER: &str = "member.pem";
const MEMBER_KEY: &str = "member-key.pem";

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Sign a certificate for one gateway replica, valid for 24 hours.
    Gateway {
        /// The folder that `pki member` wrote.
        #[arg(long, value_name = "DIR")]
        member: PathBuf,
        /// Name of the replica, as in `landbridge gateway --name`.
        #[arg(long)]
        name: Hostname,
        /// How often the cluster has joined: the generation of its Member object on the hub.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        generation: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Sign the certificate authority of one cluster, valid for 90 days. Its gateways' certificates come from it.
    Member {
        /// The folder that `pki root` wrote.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Id of the cluster, the only one that it may sign for.
        #[arg(long, value_name = "ID")]
        cluster: ClusterId,
        #[command(flatten)]
        target: Target,
    },
    /// Make the root of a clusterset, valid for ten years. Its key signs members and belongs on the hub only.
    Root {
        /// Name of the clusterset.
        #[arg(long, value_name = "NAME")]
        set: ClusterSetId,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(clap::Args, Debug)]
struct Target {
    /// The folder to write to; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
    /// Print what was written for a program.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// What was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    /// Whose certificate it is.
    identity: String,
    /// When it expires, in RFC 3339.
    expires: String,
    /// The files that were written.
    files: Vec<PathBuf>,
    /// What to do with them.
    #[serde(skip)]
    next: String,
}

/// Makes what was asked for and says what was made.
///
/// # Errors
/// Files that are missing, wrong, or in the way.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let (made, target) = match &arguments.what {
        What::Gateway { member, name, generation, target } => {
            (make_gateway(member, name, *generation, target, now)?, target)
        }
        What::Member { root, cluster, target } => {
            (make_member(root, cluster, target, now)?, target)
        }
        What::Root { set, target } => (make_root(set, target, now)?, target),
    };
    let text = match target.output {
        Some(format) => render(format, &made)?,
        None => tell(&made),
    };
    print(out, &text)
}

fn make_root(set: &ClusterSetId, target: &Target, now: Timestamp) -> Result<Made> {
    let root = Root::generate(set, now)?;
    let files = [File::secret(ROOT_KEY, root.key_pem()), File::public(ROOT, root.cert_pem())];
    Ok(Made {
        identity: format!("spiffe://{set}"),
        expires: expiry(&root.cert_pem())?,
        files: write(&target.out, &files, target.force)?,
        next: format!(
            "Keep {ROOT_KEY} on the hub. Then, for each cluster:\n  landbridge pki member --root {} --cluster ID --out DIR",
            target.out.display()
        ),
    })
}

fn make_member(from: &Path, cluster: &ClusterId, target: &Target, now: Timestamp) -> Result<Made> {
    let root_pem = read(from, ROOT)?;
    let root = Root::from_pem(&root_pem, &read(from, ROOT_KEY)?)
        .map_err(|error| Usage(format!("{} holds no usable root ({error})", from.display())))?;
    let member = root.issue_member(cluster, now)?;
    let files = [
        File::secret(MEMBER_KEY, member.key_pem()),
        File::public(MEMBER, member.cert_pem()),
        File::public(ROOT, root_pem),
    ];
    Ok(Made {
        identity: format!("spiffe://{}/cluster/{cluster}", root.set()),
        expires: expiry(&member.cert_pem())?,
        files: write(&target.out, &files, target.force)?,
        next: format!(
            "Take the folder to {cluster}: its gateways issue their own certificates from it (--member-cert, --member-key, --tls-ca). Without them, for each gateway, at least once a day:\n  landbridge pki gateway --member {} --name NAME --out DIR",
            target.out.display()
        ),
    })
}

fn make_gateway(
    from: &Path,
    name: &Hostname,
    generation: u64,
    target: &Target,
    now: Timestamp,
) -> Result<Made> {
    let member = Member::from_pem(&read(from, MEMBER)?, &read(from, MEMBER_KEY)?)
        .map_err(|error| Usage(format!("{} holds no usable member ({error})", from.display())))?;
    let leaf = member.issue_gateway(generation, name, now)?;
    let files = [
        File::secret("tls.key", leaf.key_pem()),
        File::public("tls.crt", leaf.chain_pem()),
        File::public("ca.crt", read(from, ROOT)?),
    ];
    let folder = target.out.display();
    Ok(Made {
        identity: leaf.id().to_string(),
        expires: expiry(&leaf.cert_pem())?,
        files: write(&target.out, &files, target.force)?,
        next: format!(
            "Run the gateway with them:\n  landbridge gateway --name {name} --listen IP --tls-cert {folder}/tls.crt --tls-key {folder}/tls.key --tls-ca {folder}/ca.crt"
        ),
    })
}

fn tell(made: &Made) -> String {
    let mut text = format!("{} until {}\n", made.identity, made.expires);
    for file in &made.files {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", file.display());
    }
    text.push_str(&made.next);
    text.push('\n');
    text
}

fn read(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| {
        Usage(format!(
            "{} cannot be read ({error}): name the folder that `landbridge pki` wrote",
            path.display()
        ))
        .into()
    })
}

/// When the first certificate of a PEM text expires.
fn expiry(pem: &str) -> Result<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    let seconds = pem.parse_x509()?.validity().not_after.timestamp();
    Ok(jiff::Timestamp::from_second(seconds)?.to_string())
}
