//! Gateways and their peers between network namespaces, and the load that goes through them.
//!
//! berlin's clients call services of paris. Whatever carries the calls has an entry beside the clients and an exit beside
//! the pods: two TCP hops on loopback and an encrypted one over the cable. All of it shares two cores, on every machine.
//!
//! | file | holds |
//! | --- | --- |
//! | [`ground`] | the two namespaces, the services, and where everything is |
//! | [`site`] | a cluster: an embedded API, its objects, its gateways as processes of the program that is shipped |
//! | [`mesh`] | two whole members, with controllers and two replicas each |
//! | [`pki`] | certificates, as `landbridge pki` makes them |
//! | [`systems`] | who carries: gateways of ours, haproxy, stunnel, nobody |
//! | [`tunnels`] | userspace WireGuard, for datagrams |
//! | [`pods`] | the servers of paris, a role of the benchmark |
//! | [`load`] | the clients of berlin, another role |

#![allow(dead_code, reason = "each benchmark uses what it needs")]

pub(crate) mod ground;
pub(crate) mod load;
pub(crate) mod mesh;
pub(crate) mod orders;
pub(crate) mod pki;
pub(crate) mod pods;
pub(crate) mod site;
pub(crate) mod systems;
pub(crate) mod tunnels;

use landbridge_benches::child;

/// Plays the role that this process was started in, to its end; nothing where a person has started it.
pub(crate) fn play() -> Option<anyhow::Result<()>> {
    let role = child::role()?;
    let words: Vec<&str> = role.iter().map(String::as_str).collect();
    Some(match words[..] {
        [pods::ROLE, name] => pods::serve(name),
        [load::ROLE] => orders::follow(),
        _ => Err(anyhow::anyhow!("nobody plays {role:?}")),
    })
}
