//! `landbridge crds`: what `kubectl apply -f -` needs before anything else.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context, Result};
use landbridge_api::crds;
use serde_json::json;

use super::output::{Format, print, render};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// YAML documents, or one List in JSON.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
    /// Write a YAML file for each definition into this folder instead, named by the definition.
    #[arg(long, value_name = "FOLDER", conflicts_with = "output")]
    directory: Option<PathBuf>,
}

/// Prints the definitions, or writes them into a folder.
///
/// # Errors
/// Where standard output or the folder takes nothing.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let all = crds::all();
    if let Some(directory) = &arguments.directory {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the folder {}", directory.display()))?;
        for crd in &all {
            let name = crd.metadata.name.as_deref().unwrap_or_default();
            let file = directory.join(format!("{name}.yaml"));
            fs::write(&file, render(Format::Yaml, crd)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        return Ok(());
    }
    let text = match arguments.output {
        Format::Json => {
            render(Format::Json, &json!({"apiVersion": "v1", "kind": "List", "items": all}))?
        }
        Format::Yaml => {
            let documents: Vec<String> =
                all.iter().map(|crd| render(Format::Yaml, crd)).collect::<Result<_>>()?;
            documents.join("---\n")
        }
    };
    print(out, &text)
}
