//! The simulation rung: whole sets in one thread, over a network that delays, reorders, repeats and loses, with APIs
//! that fail and controllers that die, from a seed. `LANDBRIDGE_SEEDS=n` runs so many worlds, `LANDBRIDGE_SEED=x` one.
//!
//! | file | what is there |
//! | --- | --- |
//! | [`world`], [`work`] | time, controllers, their watches; what they ask for, and how that goes |
//! | [`api`], [`thing`] | an API server and its objects |
//! | [`people`] | what people do, to their own, to ours and to machines |
//! | [`rules`], [`rest`], [`facts`] | what holds at each step and at rest; what must have come of what people did |
//! | [`twist`], [`versions`] | what is made wrong on purpose; two versions of the merge rules |
//! | [`chance`], [`trace`] | draws from a seed; what has happened, for people |

#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod api;
mod chance;
mod facts;
mod people;
mod rest;
mod rules;
mod thing;
mod trace;
mod twist;
mod versions;
mod work;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use world::{Mischief, World};

/// How many worlds are simulated unless the environment says otherwise: what a busy core does within a minute.
const SEEDS: u64 = 200;

/// Lives through the world of a seed: storms and calms in turn.
fn live(seed: u64, mischief: Mischief) -> World {
    let mut world = World::new(seed, mischief);
    world.rest();
    let (rounds, acts) = if world.clusters.len() > 8 { (1, 40) } else { (2, 25) };
    for _ in 0..rounds {
        world.weather = world.draw_weather();
        for _ in 0..acts {
            let pause = world.chance.between(1, 1_500);
            world.run(world.now + pause);
            if world.broken.is_some() {
                return world;
            }
            world.act();
        }
        world.rest();
    }
    world
}

/// What people read of a world in which a rule was broken; nothing where none was.
fn report(seed: u64, world: &World) -> Option<String> {
    let broken = world.broken.as_ref()?;
    let clusters = world.clusters.iter().map(|cluster| {
        let (network, rules) = (&cluster.network, cluster.rules.newest());
        let ahead = if cluster.ahead > 0 { ", clock an hour ahead" } else { "" };
        format!("  {}: {network}, rules {rules}{ahead}\n", cluster.id)
    });
    Some(format!(
        "LANDBRIDGE_SEED={seed}, after {} ms: the rule is broken that {}:\n  {}\n{}{}",
        world.now,
        broken.rule,
        broken.says,
        clusters.collect::<String>(),
        world.trace.about(&broken.words),
    ))
}

/// The rules hold in the world of a seed, whatever happens in it.
fn check(seed: u64) {
    let lived = catch_unwind(AssertUnwindSafe(|| live(seed, Mischief::None)));
    let world = lived.unwrap_or_else(|panic| {
        eprintln!("LANDBRIDGE_SEED={seed} panicked");
        resume_unwind(panic)
    });
    if let Some(report) = report(seed, &world) {
        panic!("{report}");
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

/// "Invariants after each step and at rest": those of `rules` and of `rest`.
#[test]
fn the_rules_hold_in_every_world() {
    if let Some(seed) = number("LANDBRIDGE_SEED") {
        return check(seed);
    }
    for seed in 0..number("LANDBRIDGE_SEEDS").unwrap_or(SEEDS) {
        check(seed);
    }
}

#[test]
fn a_seed_replays_to_the_same_world() {
    for seed in [3, 11] {
        let [one, other] = [live(seed, Mischief::None), live(seed, Mischief::None)];
        assert_eq!(one.trace.lines(), other.trace.lines(), "seed {seed}");
        assert!(one.trace.lines().len() > 100, "something happens");
    }
}

/// Every rule can be broken: what is made wrong on purpose is found, and named as what it is.
#[test]
fn what_is_made_wrong_on_purpose_is_found() {
    for (mischief, rule) in [
        (Mischief::KeptEndpoints, "no slice names an endpoint that its cluster withdrew"),
        (Mischief::KeptImports, "an import stands where and as long as somebody gives it"),
        (Mischief::KeptImports, "when nothing happens any more, everything is done"),
        (Mischief::KeptPorts, "a plan that is true writes nothing"),
        (Mischief::MutedConflicts, "Conflict is on all exports of a service or on none"),
        (Mischief::MutedReady, "exports are told what became of them"),
        (Mischief::Remade, "an import is never deleted while an export stands"),
        (Mischief::Renumbered, "allotted ports never change for a living import"),
        (Mischief::SharedAddress, "no two imports share a ClusterIP"),
        (Mischief::SharedPort, "no two imports share an allotted port"),
        (Mischief::TwoHolders, "two controllers of one member never both write"),
        (Mischief::Unlabelled, "the oldest export wins"),
        (Mischief::WrongRevision, "the same facts give the same imports everywhere"),
        (Mischief::YoungestWins, "the oldest export wins"),
    ] {
        let mut others = String::new();
        let found = (0..40).filter_map(|seed| report(seed, &live(seed, mischief))).any(|report| {
            let is_it = report.contains(rule);
            others.extend(report.lines().take(2).map(|line| format!("{line}\n")));
            is_it
        });
        assert!(found, "{mischief:?} is not found, or taken for something else:\n{others}");
    }
}
