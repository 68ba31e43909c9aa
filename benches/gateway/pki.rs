//! Certificates, as `landbridge pki` makes them, and the program itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, bail, ensure};

/// The program that is shipped: beside the folder of this benchmark, of the same build, and not older than its sources.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let remedy = "cargo build --release --locked --workspace --bins --benches";
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).context("a folder of what cargo builds")?;
    let program = folder.join("landbridge");
    let built = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let Ok(at) = built(&program) else {
        bail!("{} is not there: {remedy}", program.display());
    };
    // What cargo has made it from.
    let sources = fs::read_to_string(program.with_extension("d"))?;
    let newer = |path: &&str| built(Path::new(path)).is_ok_and(|source: SystemTime| source > at);
    if let Some(source) = sources.split_whitespace().find(newer) {
        bail!("{} is older than {source}: {remedy}", program.display());
    }
    Ok(program)
}

/// The files of a clusterset.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    program: PathBuf,
    folder: PathBuf,
}

impl Pki {
    /// A set with the authority of each of these clusters.
    pub(crate) fn new(folder: &Path, clusters: &[&str]) -> anyhow::Result<Self> {
        let pki = Self { program: program()?, folder: folder.join("pki") };
        if pki.folder.exists() {
            fs::remove_dir_all(&pki.folder)?;
        }
        let root = pki.folder.join("root");
        pki.make(&["root", "--set", "demo"], &root)?;
        for cluster in clusters {
            let arguments = ["member", "--cluster", cluster, "--root"];
            pki.make(&[&arguments[..], &[&text(&root)]].concat(), &pki.member(cluster))?;
        }
        Ok(pki)
    }

    /// The folder of a cluster's authority.
    pub(crate) fn member(&self, cluster: &str) -> PathBuf {
        self.folder.join(cluster)
    }

    /// The certificate of a gateway for programs of others: chain and key in one file, and the root.
    pub(crate) fn bundle(&self, cluster: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
        let leaf = self.folder.join(format!("{cluster}-leaf"));
        if !leaf.exists() {
            let member = text(&self.member(cluster));
            self.make(&["gateway", "--name", "gw-0", "--member", &member], &leaf)?;
        }
        let bundle = leaf.join("bundle.pem");
        let parts = ["tls.crt", "tls.key"].map(|name| fs::read_to_string(leaf.join(name)));
        let [chain, key] = parts;
        fs::write(&bundle, chain? + &key?)?;
        Ok((bundle, leaf.join("ca.crt")))
    }

    fn make(&self, arguments: &[&str], out: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        let done = command.arg("pki").args(arguments).arg("--out").arg(out).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "landbridge pki {}: {said}", arguments.join(" "));
        Ok(())
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
