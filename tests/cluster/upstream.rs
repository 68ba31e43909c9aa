//! What the upstream conformance suite does before its first case, so that whoever has a copy can run it on the lab.

use std::process::Output;

use landbridge_xtask::lab::Lab;

use crate::{
    gate, objects,
    stage::{SOON, Stage, within},
};

/// One command where all API servers are reached, as `cargo xtask lab exec wan` runs it.
fn on_the_wan(lab: &Lab, command: &[&str]) -> Output {
    let command: Vec<String> = command.iter().map(ToString::to_string).collect();
    lab.command(&command).unwrap().output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn its_kinds_are_listed_through_each_context_of_one_file() {
    let _others = gate::beside_others();
    let lab = gate::the_set();
    for cluster in lab.clusters() {
        for kind in ["serviceexports", "serviceimports"] {
            let path = format!("/apis/multicluster.x-k8s.io/v1beta1/{kind}");
            let context = ["kubectl", "--context", cluster.name(), "get", "--raw", &path];
            let output = on_the_wan(&lab, &context);
            assert!(output.status.success(), "{}", said(&output));
            assert!(said(&output).contains("multicluster.x-k8s.io/v1beta1"), "{}", said(&output));
        }
    }
}

#[test]
fn its_pods_run_and_its_commands_have_a_terminal_over_spdy() {
    let _others = gate::beside_others();
    let lab = gate::the_set();
    let namespace = format!("mcs-conformance-{}", rand::random::<u32>());
    lab.run(async || {
        let stage = Stage::at(&lab, &namespace).await;
        stage.set().await;
        // Waits until both images run.
        stage.begin(objects::service()).await;
        stage.first().backing("IPv4", 1).await;
        Ok(())
    })
    .unwrap();
    for cluster in lab.clusters() {
        // `script` gives kubectl the terminal that it asks for; without websockets it is left with SPDY, as the suite.
        let exec = format!(
            "kubectl --context {} exec --namespace {namespace} --stdin --tty request -- sh -c 'test -t 1 && echo a terminal'",
            cluster.name()
        );
        let spdy = ["env", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false"];
        let terminal = ["script", "--quiet", "--return", "--command", &exec, "/dev/null"];
        let output = on_the_wan(&lab, &[&spdy[..], &terminal].concat());
        assert!(said(&output).contains("a terminal"), "{}", said(&output));
    }
    let what = "the suite's listener tells families apart";
    lab.run(async || {
        let stage = Stage::at(&lab, &namespace).await;
        // Its script in the pods that answer looks for these.
        within(SOON, SOON, what, async || {
            let place = stage.first();
            let words = "for word in awk grep socat tr; do command -v $word || echo no $word; done";
            let said = place.sh_in("deployment/hello", words).await;
            if said.contains("/tr") && !said.contains("no ") { Ok(()) } else { Err(said) }
        })
        .await;
        stage.strike().await;
        Ok(())
    })
    .unwrap();
}
