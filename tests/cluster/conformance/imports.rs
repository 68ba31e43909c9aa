//! When an import is there, of which type, and what it takes over from exports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use landbridge_api::mcs::{ServiceExport, ServiceImport};
use serde_json::json;

use crate::{
    case::Case,
    objects::{self, HELLO},
    stage::{Place, SOON, Stage, stays},
};

async fn is_there(place: &Place<'_>) -> Result<(), String> {
    place.get::<ServiceImport>(HELLO).await.map(drop).ok_or_else(|| "it is gone".into())
}

async fn is_away(place: &Place<'_>) -> Result<(), String> {
    match place.get::<ServiceImport>(HELLO).await {
        None => Ok(()),
        Some(import) => Err(format!("{import:?}")),
    }
}

async fn is_of_type(stage: &Stage<'_>, kind: &str) {
    for place in &stage.places {
        place
            .import(SOON, |import| match import.spec.type_.as_str() {
                found if found == kind => Ok(()),
                found => Err(format!("it is {found}, not {kind}")),
            })
            .await;
    }
}

#[test]
fn r1_an_import_is_there_as_long_as_one_cluster_exports() {
    let case = Case {
        id: "R1",
        name: "A ServiceImport should only exist as long as there's at least one exporting cluster",
        labels: "Required",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        let [first, second] = [stage.first(), stage.second()];
        first.create::<ServiceExport>(objects::export()).await;
        first.import(SOON, |_| Ok(())).await;
        second.deploy(objects::service()).await;
        second.create::<ServiceExport>(objects::export()).await;
        stays("the import, once both export", async || is_there(first).await).await;
        first.unexport().await;
        stays("the import, while the second exports", async || is_there(first).await).await;
        second.unexport().await;
        first.no_import().await;
    });
}

#[test]
fn r2_a_service_with_an_address_is_imported_with_one_until_it_is_unexported() {
    let case = Case {
        id: "R2",
        name: "Exporting a ClusterIP service should create a ServiceImport of type ClusterSetIP in the service's namespace in each cluster. Unexporting should delete the ServiceImport",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        stage.first().condition("Valid", "True").await;
        is_of_type(stage, "ClusterSetIP").await;
        stage.first().unexport().await;
        for place in &stage.places {
            place.no_import().await;
        }
    });
}

#[test]
fn r10_a_headless_service_is_imported_headless_until_it_is_unexported() {
    let case = Case {
        id: "R10",
        name: "Exporting a headless service should create a ServiceImport of type Headless in the service's namespace in each cluster. Unexporting should delete the ServiceImport",
        labels: "Required, Headless",
    };
    case.run(async |stage| {
        stage.begin(objects::headless()).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        is_of_type(stage, "Headless").await;
        stage.first().unexport().await;
        for place in &stage.places {
            place.no_import().await;
        }
    });
}

#[test]
fn r11_a_headless_import_has_no_address() {
    let case = Case {
        id: "R11",
        name: "No clusterset IP should be allocated for a Headless ServiceImport",
        labels: "Required, Headless",
    };
    case.run(async |stage| {
        stage.begin(objects::headless()).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        for place in &stage.places {
            place.import(SOON, |_| Ok(())).await;
            stays("an import without address", async || {
                let import = place.get::<ServiceImport>(HELLO).await.ok_or("it is gone")?;
                let ips = import.spec.ips;
                if ips.is_empty() { Ok(()) } else { Err(format!("{ips:?}")) }
            })
            .await;
        }
    });
}

#[test]
fn r12_an_external_name_is_not_exported() {
    let case = Case {
        id: "R12",
        name: "Exporting an ExternalName service should set ServiceExport Valid condition to False",
        labels: "Required, ExternalName",
    };
    case.run(async |stage| {
        let spec = json!({"type": "ExternalName", "externalName": "example.com"});
        let mut service = objects::service();
        service["spec"] = spec;
        stage.begin(service).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        stage.first().condition("Valid", "False").await;
        for place in &stage.places {
            stays("no import", async || is_away(place).await).await;
        }
    });
}

#[test]
fn r13_the_older_export_decides_whether_an_import_is_headless() {
    let case = Case {
        id: "R13",
        name: "A service exported on two clusters with conflicting headlessness should apply the conflict resolution policy and report a Conflict condition on each ServiceExport",
        labels: "Required",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        stage.export_both(objects::export(), objects::headless(), objects::export()).await;
        stage.both_disagree().await;
        is_of_type(stage, "ClusterSetIP").await;
    });
}

/// That an import has these and lacks those, each given as a label and an annotation.
fn marks(import: &ServiceImport, has: &str, lacks: &[&str]) -> Result<(), String> {
    let of = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    for (kind, map) in
        [("label", of(&import.metadata.labels)), ("annotation", of(&import.metadata.annotations))]
    {
        let key = |name: &str| map.get(&name.replace("KIND", kind)).cloned();
        if key(has).as_deref() != Some("true") {
            return Err(format!("no {kind} {has}"));
        }
        if let Some(name) = lacks.iter().find(|name| key(name).is_some()) {
            return Err(format!("a {kind} {name}"));
        }
    }
    Ok(())
}

#[test]
fn o1_an_import_has_what_the_export_gives_it_and_nothing_of_the_service() {
    let case = Case {
        id: "O1",
        name: "Only labels and annotations specified as exported in the ServiceExport should be propagated to the ServiceImport",
        labels: "Optional, ExportedLabels",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        let export = objects::export_with("dummy-label", "dummy-annotation");
        stage.first().create::<ServiceExport>(export).await;
        let service: Service = stage.first().get(HELLO).await.unwrap();
        assert!(service.metadata.labels.unwrap().contains_key("dummy-svc"));
        let lacks = ["dummy-svc", "dummy-svcexport"];
        stage.first().import(SOON, |import| marks(import, "dummy-KIND", &lacks)).await;
    });
}

#[test]
fn o2_the_older_export_decides_labels_and_annotations() {
    let case = Case {
        id: "O2",
        name: "A service exported on two clusters with conflicting annotations and labels should apply the conflict resolution policy and report a Conflict condition on each ServiceExport",
        labels: "Optional, ExportedLabels",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        let first = objects::export_with("dummy-label", "dummy-annotation");
        let second = objects::export_with("dummy-label2", "dummy-annotation2");
        stage.export_both(first, objects::service(), second).await;
        stage.both_disagree().await;
        stage.first().import(SOON, |import| marks(import, "dummy-KIND", &["dummy-KIND2"])).await;
    });
}
