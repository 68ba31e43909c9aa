//! Certificates and roots that change while a gateway runs: taken without a restart, links made anew before the old ones
//! end, and a file that cannot be used hurts nobody.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use landbridge_model::{Hostname, Timestamp};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{Site, World, id, named, now, until};
use crate::{
    credentials::Keeper,
    pki::{Identity, Leaf, Member, Root, Source, Texts},
};

/// The files of a gateway, as the kubelet mounts a Secret: names that are links into a folder, which is swapped whole.
struct Mount {
    folder: TempDir,
    swaps: Mutex<u32>,
}

const FILES: [&str; 3] = ["first.pem", "key.pem", "roots.pem"];

impl Mount {
    fn new(texts: [String; 3]) -> Self {
        let mount = Self { folder: TempDir::new().unwrap(), swaps: Mutex::new(0) };
        mount.swap(texts);
        for file in FILES {
            let to = Path::new("..data").join(file);
            std::os::unix::fs::symlink(to, mount.folder.path().join(file)).unwrap();
        }
        mount
    }

    fn swap(&self, texts: [String; 3]) {
        let mut swaps = self.swaps.lock().unwrap();
        *swaps += 1;
        let version = self.folder.path().join(format!("..{swaps}"));
        fs::create_dir(&version).unwrap();
        for (file, text) in FILES.iter().zip(texts) {
            fs::write(version.join(file), text).unwrap();
        }
        let new = self.folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(&version, &new).unwrap();
        fs::rename(new, self.folder.path().join("..data")).unwrap();
    }

    fn read(&self) -> Texts {
        Texts(FILES.map(|file| fs::read_to_string(self.folder.path().join(file)).unwrap()))
    }

    fn identity(&self) -> Identity {
        let [chain, key, roots] = FILES.map(|file| self.folder.path().join(file));
        Source::Gateway { chain, key, roots }.identity(self.read(), now()).unwrap()
    }

    fn of_member(&self) -> Identity {
        let [cert, key, roots] = FILES.map(|file| self.folder.path().join(file));
        let name = Hostname::parse("gw-0").unwrap();
        let source = Source::Member { cert, key, roots, generation: 1, name };
        source.identity(self.read(), now()).unwrap()
    }
}

/// A leaf of `cluster` that ends so many seconds from now.
fn leaf(root: &Root, cluster: &str, seconds: i64) -> Leaf {
    let day = 24 * 60 * 60;
    let begins = Timestamp::from_millis(now().as_millis() + (seconds - day) * 1000);
    let member = root.issue_member(&id(cluster), now()).unwrap();
    member.issue_gateway(1, &Hostname::parse("gw-0").unwrap(), begins).unwrap()
}

fn files(leaf: &Leaf, roots: &[&Root]) -> [String; 3] {
    let roots: Vec<String> = roots.iter().map(|root| root.cert_pem()).collect();
    [leaf.chain_pem(), leaf.key_pem(), roots.concat()]
}

/// berlin, whose identity is this, calls paris; each dials the other.
async fn linked(world: &World, berlin: Identity) -> (Site, Site) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (berlin, paris) = (world.site_as("berlin", berlin), world.site("paris"));
    paris.knows("berlin", &[berlin.link_address()]);
    paris.exports(&[named("paris", &heard).await], false);
    berlin.knows("paris", &[paris.link_address()]);
    berlin.imports(&["paris"]).await;
    berlin.linked("paris").await;
    paris.linked("berlin").await;
    until("both have dialled", || berlin.core.links.to(&id("paris")).len() == 2).await;
    (berlin, paris)
}

fn ids(site: &Site, cluster: &str) -> Vec<u64> {
    site.core.links.to(&id(cluster)).iter().map(|link| link.id).collect()
}

/// Design, "Identity and access": "Links are replaced before their leaf expires"; and nothing that is open is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_taken_and_links_are_made_anew_under_open_calls() {
    let world = World::new();
    let mount = Mount::new(files(&leaf(&world.root, "berlin", 3600), &[&world.root]));
    let (berlin, paris) = linked(&world, mount.identity()).await;
    let keeper = Keeper::new(&berlin.core);
    let mut open = berlin.call().await;
    open.write_all(b"begun under the old one, ").await.unwrap();
    until("it is open", || paris.core.open_connections() == 1).await;
    let old = ids(&berlin, "paris");
    keeper.look(now()).await;
    assert_eq!(berlin.core.credentials.load().serial, 0, "nothing has changed");
    mount.swap(files(&leaf(&world.root, "berlin", 24 * 3600), &[&world.root]));
    keeper.look(now()).await;
    assert_eq!(berlin.core.credentials.load().serial, 1);
    assert_eq!(berlin.core.metrics.credentials("renewed"), 1);
    let left = berlin.core.metrics.certificate_seconds("gateway");
    assert!((23 * 3600..=24 * 3600).contains(&left), "{left}");
    // The one that carries the call stays until that ends, the other is closed; both have another in their place.
    until("links are new", || {
        let links = berlin.core.links.to(&id("paris"));
        let new = links.iter().filter(|link| !old.contains(&link.id));
        let new = new.filter(|link| !link.view().draining).count();
        new >= 2 && links.iter().filter(|link| old.contains(&link.id)).count() == 1
    })
    .await;
    assert_eq!(berlin.ask("a new call").await.unwrap(), "paris");
    open.write_all(b"ended under the new one").await.unwrap();
    open.shutdown().await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "paris");
    until("the old link is closed", || ids(&berlin, "paris").iter().all(|id| !old.contains(id)))
        .await;
}

/// "a bad new file is told and the old one stays in force".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_are_told_and_hurt_nobody() {
    let world = World::new();
    let good = leaf(&world.root, "berlin", 3600);
    let mount = Mount::new(files(&good, &[&world.root]));
    let (berlin, _paris) = linked(&world, mount.identity()).await;
    let keeper = Keeper::new(&berlin.core);
    let before = ids(&berlin, "paris");
    let other = World::new();
    let another = leaf(&world.root, "berlin", 3600);
    let tokyo = leaf(&world.root, "tokyo", 3600);
    let all = [
        ["no certificate".to_owned(), good.key_pem(), world.root.cert_pem()],
        // The other's key, as where only one of two files was replaced.
        [good.chain_pem(), another.key_pem(), world.root.cert_pem()],
        // A root of the same name, made anew.
        files(&good, &[&other.root]),
        files(&tokyo, &[&world.root]),
        files(&leaf(&world.root, "berlin", -60), &[&world.root]),
        // Of a clock that is ahead.
        files(&leaf(&world.root, "berlin", 25 * 3600), &[&world.root]),
    ];
    for (at, bad) in all.into_iter().enumerate() {
        mount.swap(bad);
        for _ in 0..3 {
            keeper.look(now()).await;
        }
        let told = berlin.core.metrics.credentials("refused");
        assert_eq!(told, at as u64 + 1, "each is told once");
    }
    fs::remove_file(mount.folder.path().join(FILES[1])).unwrap();
    keeper.look(now()).await;
    keeper.look(now()).await;
    assert_eq!(berlin.core.metrics.credentials("refused"), 7, "a file that is gone as well");
    assert_eq!(berlin.core.credentials.load().serial, 0);
    assert_eq!(ids(&berlin, "paris"), before, "no link was touched");
    assert_eq!(berlin.ask("?").await.unwrap(), "paris");
}

/// Design, "Identity and access": "the member signs its own gateways' leaves (24 h)". No restart, and hours to spare.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_its_members_key_renews_its_own_leaf() {
    let world = World::new();
    let texts = |member: &Member| [member.cert_pem(), member.key_pem(), world.root.cert_pem()];
    let member = world.root.issue_member(&id("berlin"), now()).unwrap();
    let mount = Mount::new(texts(&member));
    let (berlin, _paris) = linked(&world, mount.of_member()).await;
    let keeper = Keeper::new(&berlin.core);
    let old = ids(&berlin, "paris");
    let hours = |hours: i64| Timestamp::from_millis(now().as_millis() + hours * 3_600_000);
    keeper.look(hours(15)).await;
    assert_eq!(berlin.core.credentials.load().serial, 0);
    keeper.look(hours(21)).await;
    assert_eq!(berlin.core.credentials.load().serial, 1);
    let until_then = berlin.core.credentials.load().identity.valid().until;
    assert!(until_then > hours(44), "a day from when it was issued");
    // The authority itself is renewed by whoever has the root.
    mount.swap(texts(&world.root.issue_member(&id("berlin"), now()).unwrap()));
    keeper.look(now()).await;
    assert_eq!(berlin.core.credentials.load().serial, 2);
    until("links are new", || {
        let links = ids(&berlin, "paris");
        links.len() >= 2 && links.iter().all(|link| !old.contains(link))
    })
    .await;
    assert_eq!(berlin.ask("?").await.unwrap(), "paris");
}

/// "Links are replaced before their leaf expires", whoever's leaf it is. The peer that does not renew its own is refused
/// once it is over, and what is open goes on for the grace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_made_anew_before_the_peers_certificate_ends_and_open_calls_outlive_it() {
    let world = World::new();
    let ending = world.identity(&leaf(&world.root, "berlin", 6));
    let ends = ending.valid().until;
    let (berlin, paris) = linked(&world, ending).await;
    let mut open = berlin.call().await;
    open.write_all(b"before, ").await.unwrap();
    until("it is open", || paris.core.open_connections() == 1).await;
    let old = ids(&berlin, "paris");
    until("others stand beside them", || {
        let links = ids(&berlin, "paris");
        links.iter().any(|id| !old.contains(id))
    })
    .await;
    assert!(now() < ends, "made before the old ones ended");
    until("it is over", || now() > ends).await;
    until("refused", || paris.core.metrics.handshake_refusals("expired") > 0).await;
    open.write_all(b"after").await.unwrap();
    open.shutdown().await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "paris");
}

/// "A root that is added or removed applies to standing links too."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_no_longer_trusted_cuts_links_and_one_that_is_added_lets_them_stand() {
    let (old, new) = (World::new(), World::new());
    let of_old = leaf(&old.root, "berlin", 3600);
    let mount = Mount::new(files(&of_old, &[&old.root]));
    let (berlin, _paris) = linked(&old, mount.identity()).await;
    let keeper = Keeper::new(&berlin.core);
    // Another member has its certificate of the next root already, and trusts both.
    let both = files(&leaf(&new.root, "tokyo", 3600), &[&old.root, &new.root]);
    let tokyo = new.site_as("tokyo", Mount::new(both).identity());
    tokyo.knows("berlin", &[]);
    berlin.knows("tokyo", &[tokyo.link_address()]);
    until("refused", || berlin.core.metrics.handshake_refusals("bad_signature") > 0).await;
    mount.swap(files(&of_old, &[&old.root, &new.root]));
    keeper.look(now()).await;
    berlin.linked("tokyo").await;
    assert!(!berlin.core.links.to(&id("paris")).is_empty(), "nobody else is touched");
    mount.swap(files(&leaf(&new.root, "berlin", 3600), &[&new.root]));
    keeper.look(now()).await;
    until("paris, of the old root, is cut", || berlin.core.links.to(&id("paris")).is_empty()).await;
    berlin.linked("tokyo").await;
}

/// Clocks that differ by more than certificates allow for are told as such, and what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_valid_yet_says_that_a_clock_is_wrong() {
    let world = World::new();
    let early = world.identity(&leaf(&world.root, "paris", 25 * 3600));
    let told = early.check_time(now()).unwrap_err().to_string();
    assert!(told.contains("compare the clock of this machine"), "{told}");
    let (berlin, paris) = (world.site("berlin"), world.site_as("paris", early));
    paris.knows("berlin", &[]);
    berlin.knows("paris", &[paris.link_address()]);
    until("refused", || berlin.core.metrics.handshake_refusals("not_yet_valid") > 0).await;
    until("told", || berlin.core.links.failure(&id("paris")).is_some()).await;
    let failure = berlin.core.links.failure(&id("paris")).unwrap().to_string();
    assert!(failure.contains("compare the clocks of both"), "{failure}");
}
