//! `landbridge crds`: what `kubectl apply -f -` needs before anything else.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use landbridge_api::crds::{self, installed::applicable};
use serde::Deserialize;
use serde_json::json;

use super::output::{Format, print, render};
use crate::exit::Usage;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// YAML documents, or one List in JSON.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
    /// Write a YAML file for each definition into this folder instead, named by the definition.
    #[arg(long, value_name = "FOLDER", conflicts_with = "output")]
    directory: Option<PathBuf>,
    /// Leave out what would take the place of a newer definition: FILE, or - for standard input, holds what a cluster
    /// has, as `kubectl get crds -o json` prints it.
    #[arg(long, value_name = "FILE")]
    installed: Option<PathBuf>,
}

/// What `kubectl get -o json` prints.
#[derive(Deserialize)]
struct List {
    items: Vec<CustomResourceDefinition>,
}

/// Prints the definitions, or writes them into a folder.
///
/// # Errors
/// Where standard output or the folder takes nothing, or what is installed cannot be read.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let mut all = crds::all();
    if let Some(path) = &arguments.installed {
        let (apply, kept) = applicable(all, &installed(path)?);
        for kept in kept {
            tell(&format!("{} {}: it is left as it is", kept.name, kept.why));
        }
        all = apply;
    }
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

/// The definitions that a cluster has.
fn installed(path: &Path) -> Result<Vec<CustomResourceDefinition>> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let list: Result<List, _> = serde_json::from_str(&text);
    list.map(|list| list.items).map_err(|error| {
        let path = path.display();
        Usage(format!("{path} is not what `kubectl get crds -o json` prints: {error}")).into()
    })
}

/// Says something beside what is printed. Nobody may be listening.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
