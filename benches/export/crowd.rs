//! Many exports at once.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    cluster::Set,
    world::{
        self, Controlling,
        real::{IMPORT, LONGEST},
    },
};

/// How often it is looked whether anything was written.
const LOOK: Duration = Duration::from_millis(10);
/// Nothing written for so long: there is nothing more to do.
const QUIET: Duration = Duration::from_secs(2);

/// What came of it.
pub(crate) struct Crowd {
    pub(crate) namespace: String,
    /// From the first export until the last write.
    pub(crate) seconds: f64,
    /// By whomever: users write the exports.
    pub(crate) writes: u64,
}

/// Exports `count` services at once, and waits until every member has every import, ready, and nothing more is written.
pub(crate) async fn exports(
    set: &Set,
    controllers: &[Controlling],
    round: usize,
    count: usize,
) -> anyhow::Result<Crowd> {
    let namespace = format!("crowd-{round}");
    set.namespace(&namespace).await?;
    let name = |n: usize| format!("web-{n}");
    let mut objects = Vec::new();
    for n in 0..count {
        let pods = [
            format!("10.3.{}.{}", n / 200, n % 200 + 1),
            format!("10.4.{}.{}", n / 200, n % 200 + 1),
        ];
        objects.extend(world::service(&namespace, &name(n), [&pods[0], &pods[1]]));
    }
    set.paris.create_all(objects).await?;
    sleep(QUIET).await;
    let before = written(controllers)?;
    let begun = Instant::now();
    let exports = (0..count).map(|n| world::export(&namespace, &name(n))).collect();
    let watched = async {
        let (mut known, mut last) = (before, begun);
        loop {
            sleep(LOOK).await;
            let now = written(controllers)?;
            if now != known {
                (known, last) = (now, Instant::now());
            } else if last.elapsed() > QUIET && is_complete(set, &namespace, count).await? {
                return anyhow::Ok((last, known));
            }
            if begun.elapsed() > LONGEST {
                bail!("{count} exports are not imported everywhere after {LONGEST:?}");
            }
        }
    };
    let (made, watched) = futures::join!(set.paris.create_all(exports), watched);
    made?;
    let (last, known) = watched?;
    let writes = known - before + u64::try_from(count)?;
    Ok(Crowd { namespace, seconds: (last - begun).as_secs_f64(), writes })
}

fn written(controllers: &[Controlling]) -> anyhow::Result<u64> {
    controllers.iter().map(Controlling::written).sum()
}

async fn is_complete(set: &Set, namespace: &str, count: usize) -> anyhow::Result<bool> {
    for member in [&set.paris, &set.berlin] {
        let imports = member.list(IMPORT, namespace).await?;
        if imports.len() < count || !imports.values().all(is_ready) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_ready(import: &Value) -> bool {
    let conditions = import["status"]["conditions"].as_array();
    conditions
        .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}
