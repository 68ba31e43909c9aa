//! `cargo xtask`: what contributors run.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use landbridge_xtask::{
    conformance::{self, Which},
    image::Image,
    lab::{
        self, Lab,
        install::{self, RunAs},
        options::{Name, Options},
    },
    programs::{self, Tool},
};

/// What contributors to Landbridge run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the cases of tests/cluster on labs of two arrangements, and write how they went. Needs root.
    Conformance {
        #[command(flatten)]
        which: Which,
        /// What the labs are called.
        #[arg(long, default_value = "conformance")]
        name: Name,
        /// The report [default: docs/conformance.md of this tree].
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Make an image of `landbridge`: the program, what it is linked with, and nothing else.
    Image {
        /// The archive to write, for `docker load` or `ctr images import`.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// What the image is called.
        #[arg(long, value_name = "NAME", default_value = concat!("landbridge.dev/landbridge:", env!("CARGO_PKG_VERSION")))]
        tag: String,
        /// The program `landbridge` [default: the one beside this program].
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Real Kubernetes clusters on this machine: tests/cluster/README.md tells more. Needs root.
    #[command(subcommand)]
    Lab(LabCommand),
    /// Build what tests and the lab run of others (etcd, Kubernetes, CoreDNS), and print where it lies.
    Programs {
        /// All of them where none is named.
        names: Vec<String>,
    },
    /// Run a component for long among all that may go wrong around it, and judge all that it does.
    Soak {
        /// Which.
        component: Soaked,
        /// For how long.
        #[arg(long, value_name = "N", default_value_t = 600)]
        seconds: u64,
    },
}

/// What can be soaked.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Soaked {
    /// The DNS server: a mixed load with restarts of the API server, churn and noise.
    Dns,
    /// Gateways: connections of all ages, while peers, certificates, policies and endpoints come and go.
    Gateway,
    /// Members: rotation of everything, revocation, and a hub that is away, under load.
    Membership,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Bring it up, or what is missing of it.
    Up(Options),
    /// Take it away, whatever state it is in.
    Down(Named),
    /// Run Landbridge on it, or what is missing of that.
    Install {
        #[command(flatten)]
        lab: Named,
        /// What its components run as.
        #[arg(long = "as", value_enum, default_value_t)]
        run_as: RunAs,
        /// The program `landbridge` [default: the one beside this program].
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Give its nodes the image of Landbridge and print its name, for `landbridge init` and `join` by `exec wan`.
    Image {
        #[command(flatten)]
        lab: Named,
        /// The program `landbridge` [default: the one beside this program].
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Take Landbridge away again, with all that it has written.
    Uninstall(Named),
    /// Say what runs.
    Status(Named),
    /// Write what it looks like into a folder: objects, events, logs, addresses, the packet filter.
    Gather {
        #[command(flatten)]
        lab: Named,
        /// The folder, made where it is not there.
        folder: PathBuf,
    },
    /// Print one kubeconfig with the contexts c1, c2, …; the addresses in it are reached by `exec wan`.
    Kubeconfig(Named),
    /// Say how long it takes from an export to the first call by name from a pod of another cluster, by stage.
    Measure {
        #[command(flatten)]
        lab: Named,
        /// How many exports, one after the other.
        #[arg(long, default_value_t = 50)]
        exports: usize,
    },
    /// Run a command on a cluster's node, or, with `wan`, where all API servers are reached.
    Exec {
        #[command(flatten)]
        lab: Named,
        /// A cluster's number, or `wan`.
        place: String,
        /// The command, after `--`.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// Which lab.
#[derive(Debug, clap::Args)]
struct Named {
    /// What it was called when it was brought up.
    #[arg(long, default_value_t)]
    name: Name,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done where even standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Conformance { which, name, report } => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
            let report = report.clone().unwrap_or_else(|| root.join("docs/conformance.md"));
            conformance::conformance(root, name, *which, &report)
        }
        Command::Image { out, tag, program } => image(out, tag, program.clone()),
        Command::Lab(command) => run_lab(command),
        Command::Programs { names } => build(names),
        Command::Soak { component, seconds } => soak(*component, *seconds),
    }
}

fn run_lab(command: &LabCommand) -> Result<()> {
    match command {
        LabCommand::Up(options) => Lab::up(options).map(drop),
        LabCommand::Down(lab) => lab::down(&lab.name),
        LabCommand::Install { lab, run_as, program } => {
            let program = program.clone().map_or_else(install::built, Ok)?;
            Lab::attach(&lab.name)?.install(&program, *run_as)
        }
        LabCommand::Image { lab, program } => {
            let program = program.clone().map_or_else(install::built, Ok)?;
            writeln!(io::stdout(), "{}", Lab::attach(&lab.name)?.image(&program)?)?;
            Ok(())
        }
        LabCommand::Uninstall(lab) => Lab::attach(&lab.name)?.uninstall(),
        LabCommand::Status(lab) => {
            let lab = Lab::attach(&lab.name)?;
            writeln!(io::stdout(), "{}\n{}", lab.options(), lab.status()?.join("\n"))?;
            Ok(())
        }
        LabCommand::Gather { lab, folder } => Lab::attach(&lab.name)?.gather(folder),
        LabCommand::Kubeconfig(lab) => {
            write!(io::stdout(), "{}", Lab::attach(&lab.name)?.kubeconfig()?)?;
            Ok(())
        }
        LabCommand::Measure { lab, exports } => {
            write!(io::stdout(), "{}", Lab::attach(&lab.name)?.measure(*exports)?)?;
            Ok(())
        }
        LabCommand::Exec { lab, place, command } => lab::exec(&lab.name, place, command),
    }
}

fn image(out: &Path, tag: &str, program: Option<PathBuf>) -> Result<()> {
    let program = program.map_or_else(install::built, Ok)?;
    let archive = Image::landbridge(tag, &program)?.archive()?;
    fs::write(out, archive).with_context(|| out.display().to_string())?;
    writeln!(io::stdout(), "{tag} in {}", out.display())?;
    Ok(())
}

/// Each is a test: that of the DNS server in its crate, which can compare what is answered with the pure functions behind
/// it. The tests of all crates are built for it, as they are for everything else: of one crate alone, dependencies would be
/// built once more with other features.
fn soak(component: Soaked, seconds: u64) -> Result<()> {
    let (name, place): (_, &[&str]) = match component {
        Soaked::Dns => ("DNS server", &["--lib", "soak_no_answer"]),
        Soaked::Gateway => ("gateway", &["--test", "integration", "soak_no_call_is_stuck"]),
        Soaked::Membership => ("set", &["--test", "integration", "soak_no_call_is_lost"]),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["test", "--locked", "--workspace"])
        .args(place)
        .args(["--", "--nocapture"])
        .env("LANDBRIDGE_SOAK_SECONDS", seconds.to_string())
        .status()
        .context("cargo cannot be run")?;
    anyhow::ensure!(status.success(), "the {name} did not hold");
    Ok(())
}

fn build(names: &[String]) -> Result<()> {
    let named = |name: &String| {
        let known = programs::ALL.map(|tool| tool.name).join(", ");
        Tool::named(name).with_context(|| format!("{name} is none of {known}"))
    };
    let tools: Result<Vec<Tool>> = if names.is_empty() {
        Ok(programs::ALL.to_vec())
    } else {
        names.iter().map(named).collect()
    };
    for tool in tools? {
        writeln!(io::stdout(), "{}", tool.pinned()?.display())?;
    }
    Ok(())
}
