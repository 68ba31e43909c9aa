//! `landbridge gather`: one archive of what there is to see of Landbridge in a cluster, for whoever helps. Nothing secret is in it.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use landbridge_api::wellknown::CLUSTER_ID_PROPERTY;
use tar::{Builder, Header};

use super::{component::runtime, output::print, seeing::Whom};
use crate::{
    exit::Usage,
    seen::{archive, ask::Depth},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// The archive; one that is there is not written over [default: landbridge-CLUSTER-TIME.tar.gz].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Gathers it into a file.
///
/// # Errors
/// An API that cannot be reached or refuses; a file that is there, or cannot be written.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let (facts, logs) = runtime()?.block_on(Box::pin(async {
        let facts = Box::pin(arguments.whom.ask(Depth::Thorough)).await?;
        let logs = arguments.whom.logs(&facts).await?;
        anyhow::Ok((facts, logs))
    }))?;
    let cluster = facts.property(CLUSTER_ID_PROPERTY).unwrap_or("cluster");
    let seconds = facts.now.as_millis().div_euclid(1000);
    let at = jiff::Timestamp::from_second(seconds).context("the time")?;
    let name = format!("landbridge-{cluster}-{}", at.strftime("%Y%m%dT%H%M%SZ"));
    let path = arguments.out.clone().unwrap_or_else(|| format!("{name}.tar.gz").into());
    let entries = archive::entries(&facts, &logs)?;
    write(&path, &name, &entries, seconds)?;
    let size = fs::metadata(&path).map(|about| about.len().div_ceil(1024)).unwrap_or_default();
    print(
        out,
        &format!(
            "{}: {} files, {size} KiB. Secrets are left out; names and addresses are not: README.txt in it tells.\n",
            path.display(),
            entries.len()
        ),
    )
}

/// Writes all of it below one folder.
fn write(path: &Path, folder: &str, entries: &[(String, String)], seconds: i64) -> Result<()> {
    let file = File::options().write(true).create_new(true).open(path).map_err(|error| {
        let remedy = "name another with --out";
        Usage(format!("{} cannot be made ({error}): {remedy}", path.display()))
    })?;
    let written = || -> std::io::Result<()> {
        let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
        for (name, text) in entries {
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            // What is in it is for whoever gathers it.
            header.set_mode(0o600);
            header.set_mtime(u64::try_from(seconds).unwrap_or_default());
            archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.sync_all()
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}
