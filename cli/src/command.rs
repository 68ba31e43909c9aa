//! What `landbridge` can be asked to do.

mod api;
mod authority;
mod check;
mod component;
mod controller;
mod crds;
mod demo;
mod diagnose;
pub(crate) mod dns;
mod drain;
mod enroll;
mod gateway;
mod gather;
mod hub;
mod init;
mod install;
mod join;
mod leave;
mod manifests;
pub(crate) mod output;
mod pki;
mod probe;
mod revoke;
mod rotate;
mod seeing;
mod status;
mod token;
mod uninstall;
mod verify;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    config::{self, Flags},
    exit::{self, Exit},
};

/// Joins the networks of separate Kubernetes clusters, service by service.
///
/// Every setting of controller, dns and gateway can be a flag, a variable LANDBRIDGE_… or a key of the --config file;
/// the flag counts first, then the variable, then the file.
#[derive(Debug, Parser)]
#[command(name = "landbridge", version, after_help = exit::HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the authority of a set, in the hub's cluster: it lets clusters in and renews what members have.
    Authority(Flags<config::authority::Settings>),
    /// Look whether a cluster is as it should be, or could be made a member, and say what to do where it is not.
    Check(check::Arguments),
    /// Run a cluster's controller: exports, imports, and the exchange with the hub.
    Controller(Flags<config::controller::Settings>),
    /// Print the CustomResourceDefinitions of everything that Landbridge reads or writes.
    Crds(crds::Arguments),
    /// Show Landbridge on this machine: clusters, an export, calls through the tunnel, a cluster that dies.
    Demo(crate::demo::Arguments),
    /// Follow the way of a call to one service, and name the first thing on it that is wrong.
    Diagnose(diagnose::Arguments),
    /// Run a DNS server for clusterset.local, or tell the cluster's own DNS of it.
    Dns(dns::Arguments),
    /// Send a member no new calls while another one serves; what is open goes on. Asks the hub.
    Drain(drain::Arguments),
    /// Join from inside: what the Job of join does.
    #[command(hide = true)]
    Enroll(enroll::Arguments),
    /// Gather what there is to see of Landbridge in a cluster into one archive, without what is secret.
    Gather(gather::Arguments),
    /// Run an east-west gateway: the encrypted way to other clusters.
    Gateway(Flags<config::gateway::Settings>),
    /// Keep the hub's state in a file, encrypted, and bring it back.
    Hub(hub::Arguments),
    /// Make a cluster the hub of a set and its first member, or change what differs from that.
    Init(init::Arguments),
    /// Make a cluster a member of the set that a token is of.
    Join(join::Arguments),
    /// Take a member out of its set, from its own side, with all that it gave, and uninstall it.
    Leave(leave::Arguments),
    /// Print the objects that make a cluster a member: what runs in it, how it is reached, what it may do.
    Manifests(manifests::Arguments),
    /// Make the certificates by which gateways know each other.
    Pki(pki::Arguments),
    /// Answer or make the calls of verify, in a pod.
    #[command(hide = true)]
    Probe(probe::Arguments),
    /// Take away what a member has left that was destroyed, so that it is one no more. Asks the hub.
    Remove(revoke::Arguments),
    /// Cut a member off: it is one no more, at once, and nothing that it has lets it in again. Asks the hub.
    Revoke(revoke::Arguments),
    /// Have another root take the place of the set's, without anybody being cut off. Asks the hub.
    Rotate(rotate::Arguments),
    /// Show how a cluster stands in its set: members, links, versions, exports, imports, certificates, problems.
    Status(status::Arguments),
    /// Make, list and take back the tokens by which clusters join the set. Asks the hub.
    Token(token::Arguments),
    /// Send a member that was drained its calls as before. Asks the hub.
    Undrain(drain::Arguments),
    /// Take out of a cluster what init or join have put into it.
    Uninstall(uninstall::Arguments),
    /// Call each cluster from each by name, and say what fails: makes a namespace in each for it, and takes it away.
    Verify(verify::Arguments),
    /// Take back what a member gave to the hub, in a pod of leave.
    #[command(hide = true)]
    Withdraw(leave::Withdraw),
}

/// Does what was asked for. What a program or a person reads goes to `out`, logs to standard error.
///
/// # Errors
/// What went wrong; [`Exit::of`] tells its kind.
pub(crate) fn run(arguments: Arguments, out: &mut dyn Write) -> Result<ExitCode> {
    match arguments.command {
        Command::Check(arguments) => check::run(&arguments, out)?,
        Command::Authority(flags) => component::run(&flags)?,
        Command::Controller(flags) => component::run(&flags)?,
        Command::Crds(arguments) => crds::run(&arguments, out)?,
        Command::Demo(arguments) => return demo::run(arguments),
        Command::Diagnose(arguments) => diagnose::run(&arguments, out)?,
        Command::Dns(arguments) => dns::run(&arguments, out)?,
        Command::Drain(arguments) => drain::run(&arguments, true, out)?,
        Command::Enroll(arguments) => enroll::run(&arguments)?,
        Command::Gather(arguments) => gather::run(&arguments, out)?,
        Command::Gateway(flags) => component::run(&flags)?,
        Command::Hub(arguments) => hub::run(&arguments, out)?,
        Command::Init(arguments) => init::run(&arguments, out)?,
        Command::Join(arguments) => join::run(&arguments, out)?,
        Command::Leave(arguments) => leave::run(&arguments, out)?,
        Command::Manifests(arguments) => manifests::run(&arguments, out)?,
        Command::Pki(arguments) => pki::run(&arguments, out)?,
        Command::Probe(arguments) => probe::run(&arguments, out)?,
        Command::Remove(arguments) => revoke::run(&arguments, revoke::Manner::Remove, out)?,
        Command::Revoke(arguments) => revoke::run(&arguments, revoke::Manner::Revoke, out)?,
        Command::Status(arguments) => status::run(&arguments, out)?,
        Command::Rotate(arguments) => rotate::run(&arguments, out)?,
        Command::Token(arguments) => token::run(&arguments, out)?,
        Command::Undrain(arguments) => drain::run(&arguments, false, out)?,
        Command::Uninstall(arguments) => uninstall::run(&arguments, out)?,
        Command::Verify(arguments) => verify::run(&arguments, out)?,
        Command::Withdraw(arguments) => leave::withdraw(&arguments, out)?,
    }
    Ok(Exit::Success.into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// clap's own check of names, duplicates and defaults, which it otherwise makes only when a command is used.
    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
