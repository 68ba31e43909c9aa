//! `landbridge crds`: what `kubectl apply -f -` needs before anything else.

use std::io::Write;

use anyhow::Result;
use landbridge_api::crds;
use serde_json::json;

use super::output::{Format, print, render};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// YAML documents, or one List in JSON.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
}

/// Prints the definitions.
///
/// # Errors
/// Where standard output takes nothing.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let all = crds::all();
    let text = match arguments.output {
        Format::Json => render(
            Format::Json,
            &json!({"apiVersion": "v1", "kind": "List", "items": all}),
        )?,
        Format::Yaml => {
            let documents: Vec<String> = all
                .iter()
                .map(|crd| render(Format::Yaml, crd))
                .collect::<Result<_>>()?;
            documents.join("---\n")
        }
    };
    print(out, &text)
}
