//! `landbridge hub backup` and `landbridge hub restore`: what a set cannot do without, in a file that nobody reads without its
//! passphrase.

use std::{
    fs,
    io::{self, Read as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Subcommand;

use super::{api::ApiArguments, component::runtime, output::print, token::random};
use crate::{
    backup::{
        hub,
        sealed::{self, About, Drawn},
        state::State,
    },
    exit::Usage,
    kubernetes::answered,
};

/// Ten thousand members are a tenth of it; a file that is more is something else.
const MOST: u64 = 64 * 1024 * 1024;
/// No passphrase is longer.
const MOST_PASSPHRASE: u64 = 4096;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write the hub's state to a file: the root and its key, members, who has left. Encrypted.
    Backup {
        #[command(flatten)]
        hub: ApiArguments,
        /// The file; it must not be there.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        secret: Secret,
    },
    /// Bring the state back to a hub, or to the cluster that takes its place; `landbridge init` there does the rest.
    Restore {
        #[command(flatten)]
        hub: ApiArguments,
        /// What `landbridge hub backup` has written.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        secret: Secret,
    },
}

#[derive(clap::Args, Debug)]
struct Secret {
    /// A file with the passphrase on its first line; - reads standard input.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
}

impl Secret {
    fn read(&self) -> Result<String> {
        let mut text = String::new();
        let path = self.passphrase_file.as_path();
        let read = if path == Path::new("-") {
            io::stdin().take(MOST_PASSPHRASE).read_to_string(&mut text)
        } else {
            let file = fs::File::open(path);
            file.and_then(|file| file.take(MOST_PASSPHRASE).read_to_string(&mut text))
        };
        read.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// Does either, and says what was done.
///
/// # Errors
/// A cluster that is no hub, a file or a passphrase that is wrong, an API that refuses.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    match &arguments.what {
        What::Backup { hub, out: file, secret } => backup(hub, file, secret, out),
        What::Restore { hub, file, secret } => restore(hub, file, secret, out),
    }
}

fn backup(api: &ApiArguments, file: &Path, secret: &Secret, out: &mut dyn Write) -> Result<()> {
    let passphrase = secret.read()?;
    let state = runtime()?.block_on(answered(Box::pin(async {
        let client = api.client().await?;
        hub::read(&client).await
    })))?;
    let about = About {
        cluster_set: state.cluster_set.clone(),
        hub: state.cluster.clone(),
        taken: jiff::Timestamp::now().to_string(),
    };
    let plain = serde_json::to_vec(&state)?;
    let drawn = Drawn::of(random()?);
    let text = sealed::seal(about, &plain, &passphrase, drawn).map_err(Usage)?;
    let mut options = fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(file);
    let written = made.and_then(|mut made| made.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    print(out, &told(&state, file))
}

fn told(state: &State, file: &Path) -> String {
    let (members, left) = (state.members.len(), state.left.len());
    format!(
        "The state of set {} is in {}: the root and its key, {members} members, {left} that have left.\n\
         Whoever has it and its passphrase can pose as any member: keep them apart.\n",
        state.cluster_set,
        file.display()
    )
}

fn restore(api: &ApiArguments, file: &Path, secret: &Secret, out: &mut dyn Write) -> Result<()> {
    let what = || format!("cannot read {}", file.display());
    let mut text = String::new();
    let opened = fs::File::open(file).with_context(what)?;
    opened.take(MOST).read_to_string(&mut text).with_context(what)?;
    let (about, plain) = sealed::open(&text, &secret.read()?).map_err(Usage)?;
    let state: State = serde_json::from_slice(&plain).context("what is in the backup")?;
    let epoch = runtime()?.block_on(async {
        let client = api.client().await?;
        Box::pin(hub::write(&client, &state)).await
    })?;
    print(
        out,
        &format!(
            "The state of set {} as of {} is there again, as epoch {epoch}: members that have seen it follow no older one.\n\
             What runs in {} is made by: landbridge init\n\
             Members that reach the hub under another address now: landbridge join --rehome\n",
            about.cluster_set, about.taken, about.hub
        ),
    )
}
