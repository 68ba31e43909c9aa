//! `landbridge join` where nobody but the cluster's own pods reaches the hub, and there only a gateway: as the Job does it. A
//! kubelet's part is played by the test: it runs what the Job says, and tells what became of it.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret, ServiceAccount},
    rbac::v1::ClusterRole,
};
use kube::{
    Client,
    api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use landbridge_api::landbridge::{ClusterExport, Member, Peer};
use landbridge_gateway::{join::Tokens, pki};
use serde_json::{Value, json};

use crate::{Bare, FIRST, SYSTEM, err, export, out};

/// Longer than anything here takes on a busy machine; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs until the test is done with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Bare {
    /// A kubeconfig of one of our accounts, which has the rights of `deploy/rbac` and no more.
    async fn kubeconfig_of(&self, account: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), SYSTEM);
        let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let given = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let path = self.folder.path().join("kubeconfig");
        let mut config: Value = serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        config["users"][0]["user"]["token"] = given.unwrap().status.unwrap().token.into();
        let path = self.folder.path().join(account);
        fs::write(&path, serde_norway::to_string(&config).unwrap()).unwrap();
        path.display().to_string()
    }

    async fn start_as(&self, account: &str, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
        let admin = free().to_string();
        command.args(arguments).args(["--kubeconfig", &self.kubeconfig_of(account).await]);
        command.args(["--admin-listen", &admin]).env_clear();
        let log = fs::File::create(self.folder.path().join(format!("{account}.log"))).unwrap();
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    async fn secret(&self, name: &str) -> Secret {
        let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), SYSTEM);
        secrets.get(name).await.unwrap()
    }

    /// Does with the Job of `landbridge join` what a kubelet does.
    async fn play_kubelet(&self) {
        let jobs: Api<Job> = Api::namespaced(self.admin.clone(), SYSTEM);
        // One that has failed stays until the next one.
        let uid = |job: Option<Job>| job.and_then(|job| job.metadata.uid).unwrap_or_default();
        let mut done = uid(jobs.get_opt("landbridge-enroll").await.unwrap());
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Some(job) = jobs.get_opt("landbridge-enroll").await.unwrap() else { continue };
            let uid = job.metadata.uid.clone().unwrap();
            if done != uid {
                self.play_pod(&jobs, &job, &uid).await;
                done = uid;
            }
        }
    }

    async fn play_pod(&self, jobs: &Api<Job>, job: &Job, uid: &str) {
        let template = job.spec.as_ref().unwrap().template.clone();
        let mut pod =
            Pod { metadata: template.metadata.unwrap(), spec: template.spec, status: None };
        pod.metadata.generate_name = Some("landbridge-enroll-".into());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert("batch.kubernetes.io/controller-uid".into(), uid.into());
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), SYSTEM);
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();

        let token = self.secret("landbridge-enroll").await.data.unwrap()["token"].0.clone();
        fs::write(self.folder.path().join("token"), token).unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let mounted = "/etc/landbridge/enroll";
        let folder = self.folder.path().display().to_string();
        let arguments = container.args.clone().unwrap();
        let arguments = arguments.iter().map(|argument| argument.replace(mounted, &folder));
        let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
        command.args(arguments).env_clear();
        command.args(["--kubeconfig", &self.kubeconfig_of("landbridge-enroll").await]);
        let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();

        let code = ended.status.code().unwrap();
        let terminated =
            json!({"terminated": {"exitCode": code, "message": err(&ended), "reason": "Error"}});
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let status = json!({"status": {"phase": phase, "containerStatuses": [{"name": "enroll",
            "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": terminated}]}});
        let name = pod.metadata.name.unwrap();
        let patched = Patch::Merge(&status);
        pods.patch_status(&name, &PatchParams::default(), &patched).await.unwrap();
        let count = if code == 0 { "succeeded" } else { "failed" };
        let status = json!({"status": {count: 1}});
        let patched = Patch::Merge(&status);
        jobs.patch_status("landbridge-enroll", &PatchParams::default(), &patched).await.unwrap();
    }

    async fn join(&self, token: &str, cluster: &str) -> Output {
        let cluster = format!("--cluster={cluster}");
        let arguments = [
            "join",
            token,
            &cluster,
            "--image=registry.example/landbridge:1",
            "--expose=nodeport",
            "--timeout=0s",
        ];
        tokio::select! {
            output = self.run(&arguments) => output,
            () = self.play_kubelet() => unreachable!(),
        }
    }
}

/// A hub whose authority and gateway run, each by its own account.
struct Hub {
    bare: Bare,
    authority: SocketAddr,
    link: SocketAddr,
    _running: [Running; 2],
}

impl Hub {
    async fn start(name: &'static str) -> Self {
        let bare = Bare::start(name).await;
        out(&bare.run(&[&["init"], &FIRST[..], &["--timeout=0s"]].concat()).await);
        let [authority, link] = [free(), free()];
        let listen = format!("--listen={authority}");
        let first = bare.start_as("landbridge-authority", &["authority", &listen]).await;
        let data = bare.secret("landbridge-member").await.data.unwrap();
        let file = |flag: &str, name: &str| {
            let path = bare.folder.path().join(name);
            fs::write(&path, &data[name].0).unwrap();
            format!("--{flag}={}", path.display())
        };
        let arguments = [
            "gateway".to_owned(),
            "--cluster=paris".into(),
            "--cluster-set=prod".into(),
            "--name=gw-0".into(),
            "--listen=127.0.0.1".into(),
            format!("--link-listen={link}"),
            format!("--authority={authority}"),
            file("member-cert", "member.pem"),
            file("member-key", "member-key.pem"),
            file("tls-ca", "root.pem"),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let second = bare.start_as("landbridge-gateway", &arguments).await;
        Self { bare, authority, link, _running: [first, second] }
    }

    async fn issue(&self, more: &[&str]) -> String {
        let address = format!("--address={}", self.link);
        let issue = ["token", "issue", &address];
        out(&self.bare.run(&[&issue[..], more].concat()).await).trim().to_owned()
    }
}

/// What the member was given, by which its controller would come to the hub; at an address that the test can reach.
async fn at_the_hub(hub: &Bare, member: &Bare) -> Client {
    let data = member.secret("landbridge-hub").await.data.unwrap();
    let text = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
    let given: Value = serde_norway::from_str(&text("kubeconfig")).unwrap();
    let server = &given["clusters"][0]["cluster"]["server"];
    assert_eq!(server, "https://landbridge-hub.landbridge-system.svc:6443");
    assert_eq!(given["users"][0]["user"]["tokenFile"], "/etc/landbridge/hub/token");
    let path = hub.folder.path().join("kubeconfig");
    let mut config: Value = serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    config["users"][0]["user"]["token"] = text("token").into();
    let config = Kubeconfig::from_yaml(&serde_norway::to_string(&config).unwrap()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_joins_by_a_gateway_alone_and_its_key_never_leaves_it() {
    let (hub, berlin) = tokio::join!(Hub::start("authority"), Bare::start("by-authority"));
    let token = hub.issue(&[]).await;
    let told = out(&berlin.join(&token, "berlin").await);
    assert!(told.contains("Plan for berlin, member of set prod\n"), "{told}");
    assert!(told.contains("berlin is a member of set prod.\n"), "{told}");

    let data = berlin.secret("landbridge-member").await.data.unwrap();
    let text = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
    let member = pki::Member::from_pem(&text("member.pem"), &text("member-key.pem")).unwrap();
    assert_eq!(member.cluster().as_str(), "berlin");
    let root = Tokens::new(hub.bare.admin.clone()).root().await.unwrap();
    assert_eq!(text("root.pem"), root.cert_pem());
    let peers: Api<Peer> = Api::all(berlin.admin.clone());
    assert_eq!(peers.get("paris").await.unwrap().spec.generation, 1);

    // On the hub it may what a member may, and no more.
    let there = at_the_hub(&hub.bare, &berlin).await;
    let members: Api<Member> = Api::all(there.clone());
    assert_eq!(members.list(&ListParams::default()).await.unwrap().items.len(), 2);
    for (namespace, taken) in [("cluster-berlin", true), ("cluster-paris", false)] {
        let exports: Api<ClusterExport> = Api::namespaced(there.clone(), namespace);
        let made = exports.create(&PostParams::default(), &export()).await;
        assert_eq!(made.is_ok(), taken, "{namespace}: {made:?}");
    }
    // What the Job was allowed is taken away with it.
    let roles: Api<ClusterRole> = Api::all(berlin.admin.clone());
    assert!(roles.get_opt("landbridge-enroll").await.unwrap().is_none());
    let secrets: Api<Secret> = Api::namespaced(berlin.admin.clone(), SYSTEM);
    assert!(secrets.get_opt("landbridge-enroll").await.unwrap().is_none());

    others_are_refused(&hub, &token).await;
    it_renews_what_it_has(&hub.bare, &berlin, hub.authority).await;
}

/// Whoever types join is told what the Job was told.
async fn others_are_refused(hub: &Hub, used: &str) {
    let rome = Bare::start("refused").await;
    let told = rome.join(used, "rome").await;
    assert_eq!(told.status.code(), Some(1), "{}", err(&told));
    assert!(err(&told).starts_with("error: berlin has used the token at 20"), "{}", err(&told));
    let token = hub.issue(&[]).await;
    let told = rome.join(&token, "berlin").await;
    let said = err(&told);
    assert!(said.starts_with("error: berlin is a member of the set already: give this"), "{said}");
    // Neither does another cluster under that id with a token for it.
    let members: Api<Member> = Api::all(hub.bare.admin.clone());
    let status = json!({"status": {"clusterUid": "another"}});
    let patch = Patch::Merge(&status);
    members.patch_status("berlin", &PatchParams::default(), &patch).await.unwrap();
    let token = hub.issue(&["--cluster=berlin"]).await;
    let told = rome.join(&token, "berlin").await;
    assert!(err(&told).contains("is the id of another cluster of the set"), "{}", err(&told));
    // What was not used up lets in the right one.
    let token = hub.issue(&["--cluster=rome"]).await;
    out(&rome.join(&token, "rome").await);
}

/// "one which expired while the hub was away is replaced at first contact"; by the controller's account.
async fn it_renews_what_it_has(hub: &Bare, berlin: &Bare, address: SocketAddr) {
    let secrets: Api<Secret> = Api::namespaced(berlin.admin.clone(), SYSTEM);
    let gone = Patch::Merge(json!({"data": {"token": null}}));
    secrets.patch("landbridge-hub", &PatchParams::default(), &gone).await.unwrap();
    let [authority, generation] = [format!("--authority={address}"), "--generation=1".to_owned()];
    let path = hub.folder.path().join("kubeconfig").display().to_string();
    let hub_kubeconfig = format!("--hub-kubeconfig={path}");
    let arguments = ["controller", &authority, &generation, &hub_kubeconfig];
    let _controller = berlin.start_as("landbridge-controller", &arguments).await;
    let renewed = async {
        while !berlin.secret("landbridge-hub").await.data.unwrap().contains_key("token") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let log = berlin.folder.path().join("landbridge-controller.log");
    let waited = tokio::time::timeout(PATIENCE, renewed).await;
    waited.unwrap_or_else(|_| panic!("{}", fs::read_to_string(log).unwrap()));
    let there = at_the_hub(hub, berlin).await;
    let members: Api<Member> = Api::all(there);
    members.get("berlin").await.unwrap();
    // It goes with its Member.
    let members: Api<Member> = Api::all(hub.admin.clone());
    members.delete("berlin", &DeleteParams::default()).await.unwrap();
}
