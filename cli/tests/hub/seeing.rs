//! `landbridge status` and `check` on a real API server: before and after `init`, half taken apart, and for people who may read
//! some of it or nothing.

use std::{path::PathBuf, process::Output};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::api::DeleteParams;

use super::*;

impl Bare {
    /// An account of the cluster; by the kubeconfig that is returned people are it.
    async fn account(&self, name: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), "kube-system");
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        let account = serde_json::from_value(account).unwrap();
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let token = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let text = fs::read_to_string(self.folder.path().join("kubeconfig")).unwrap();
        let mut config: Value = serde_norway::from_str(&text).unwrap();
        config["users"][0]["user"]["token"] = token.unwrap().status.unwrap().token.into();
        let path = self.folder.path().join(name);
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Lets it read this, in the whole cluster.
    async fn may_read(&self, account: &str, groups: &[&str], resources: &[&str]) {
        let (roles, bindings): (Api<ClusterRole>, Api<ClusterRoleBinding>) =
            (Api::all(self.admin.clone()), Api::all(self.admin.clone()));
        let role = json!({"metadata": {"name": account},
            "rules": [{"apiGroups": groups, "resources": resources, "verbs": ["get", "list"]}]});
        roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
        let binding = json!({"metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
            "subjects": [{"kind": "ServiceAccount", "namespace": "kube-system", "name": account}]});
        bindings
            .create(&PostParams::default(), &serde_json::from_value(binding).unwrap())
            .await
            .unwrap();
    }

    /// Runs the program to its end, as somebody.
    async fn run_as(&self, who: &PathBuf, command: &str) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_landbridge"));
        program.arg(command).arg("--kubeconfig").arg(who).env_clear();
        tokio::task::spawn_blocking(move || program.output()).await.unwrap().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// "Every command against a cluster that is missing permissions, half-installed, newer or older, unreachable: says what is wrong
/// and what to do, changes nothing it can't finish, exit code by kind."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_seen_before_and_after_and_by_who_may() {
    let bare = Bare::start("seeing").await;
    let before = out(&bare.run(&["check"]).await);
    assert!(before.starts_with("Nothing of Landbridge runs here"), "{before}");
    assert!(before.contains("  ok   permissions   everything that"), "{before}");
    let status = bare.run(&["status"]).await;
    assert_eq!(status.status.code(), Some(2), "{}", err(&status));
    let nobody = bare.account("nobody").await;
    for command in ["status", "check"] {
        let told = bare.run_as(&nobody, command).await;
        assert_eq!(told.status.code(), Some(3), "{}", err(&told));
        assert!(
            err(&told).starts_with("error: you may not list clusterproperties.about.k8s.io, "),
            "{}",
            err(&told)
        );
    }

    out(&bare.init(&FIRST).await);
    let status = out(&bare.run(&["status"]).await);
    assert!(status.starts_with("paris, hub of set prod, on Kubernetes v1."), "{status}");
    assert!(status.contains("\nlandbridge-gateway      2/2     -\n"), "{status}");
    assert!(status.contains("\nauthority of the gateways   "), "{status}");
    assert!(status.contains("\nroot of the set             "), "{status}");
    let check = bare.run(&["check"]).await;
    assert_eq!(check.status.code(), Some(5), "{}", err(&check));
    let told = said(&check);
    assert!(told.contains("ok      certificates       the first ends in "), "{told}");
    assert!(told.contains("ok      dns                CoreDNS asks our server"), "{told}");
    // No gateway runs here.
    assert!(
        told.contains("WRONG   gateways           no gateway of this cluster is ready"),
        "{told}"
    );

    // Who may read what is Landbridge's sees that, and is told what he does not.
    bare.may_read("viewer", &["landbridge.dev", "multicluster.x-k8s.io", "about.k8s.io"], &["*"])
        .await;
    let viewer = bare.account("viewer").await;
    let status = bare.run_as(&viewer, "status").await;
    let told = out(&status);
    assert!(told.starts_with("paris, hub of set prod, on Kubernetes v1."), "{told}");
    for denied in ["list deployments.apps", "get secrets", "get configmaps"] {
        assert!(told.contains(&format!("you may not {denied}")), "{denied}: {told}");
    }

    half_of_it_is_gone(&bare).await;
}

async fn half_of_it_is_gone(bare: &Bare) {
    let kinds: Api<CustomResourceDefinition> = Api::all(bare.admin.clone());
    kinds.delete("peers.landbridge.dev", &DeleteParams::default()).await.unwrap();
    while kinds.get_opt("peers.landbridge.dev").await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = said(&bare.run(&["check"]).await);
    assert!(
        told.contains("WRONG   kinds              not there: peers.landbridge.dev\n"),
        "{told}"
    );
    assert!(
        told.contains("→ run `landbridge init` or `landbridge join` again, or apply what"),
        "{told}"
    );
    // The rest is told all the same.
    let status = out(&bare.run(&["status"]).await);
    assert!(status.contains("COMPONENT "), "{status}");
}
