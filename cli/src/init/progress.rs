//! Pure: how far what runs has come, and what keeps it, as Kubernetes tells it.

use std::net::IpAddr;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};

use super::choice::Choice;

/// How far one Deployment has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Progress {
    pub(crate) name: String,
    pub(crate) ready: i32,
    pub(crate) wanted: i32,
    pub(crate) is_done: bool,
}

/// Reads it off the object.
pub(crate) fn progress(deployment: &Deployment) -> Progress {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    // What is told is of the newest template, or nothing yet.
    let is_seen = status.observed_generation >= deployment.metadata.generation;
    let ready = if is_seen { status.updated_replicas.unwrap_or(0) } else { 0 };
    let ready = ready.min(status.available_replicas.unwrap_or(0));
    let is_done = is_seen && ready >= wanted && status.replicas == Some(wanted);
    Progress { name: deployment.metadata.name.clone().unwrap_or_default(), ready, wanted, is_done }
}

/// What keeps a pod from running, as the kubelet or the scheduler says.
pub(crate) fn problem(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let waiting = waiting.map(|waiting| (waiting.reason.clone(), waiting.message.clone()));
    let conditions = status.conditions.iter().flatten();
    let unplaced = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| (condition.reason.clone(), condition.message.clone()));
    let (reason, message) = waiting.chain(unplaced).find(|(reason, _)| {
        !matches!(reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"))
    })?;
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!("pod {name}: {}{message}", reason.unwrap_or_default()))
}

/// What a load balancer has told of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Balancer {
    /// Where it is reached.
    At(Vec<IpAddr>),
    /// A name, which peers would have to look up.
    Named(String),
    /// Nothing yet.
    Nothing,
}

/// Reads it off the Service.
pub(crate) fn balancer(service: &Service) -> Balancer {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let address = |one: &str| one.parse::<IpAddr>().ok();
    let addresses: Vec<IpAddr> =
        ingress.iter().filter_map(|one| one.ip.as_deref().and_then(address)).collect();
    let name = ingress.iter().find_map(|one| one.hostname.clone());
    match (addresses.is_empty(), name) {
        (false, _) => Balancer::At(addresses),
        (true, Some(name)) => Balancer::Named(name),
        (true, None) => Balancer::Nothing,
    }
}

impl Balancer {
    /// What is chosen with what it has told; none where that is nothing to dial.
    pub(crate) fn chosen(&self, choice: &Choice) -> Option<Choice> {
        let Self::At(addresses) = self else { return None };
        let advertise = addresses.iter().filter_map(|address| address.to_string().parse().ok());
        Some(Choice { advertise: advertise.collect(), ..choice.clone() })
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::At(addresses) => {
                let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("Other members dial the load balancer at {}.\n", all.join(" and "))
            }
            Self::Named(name) => format!(
                "The load balancer is called {name}, and names are not looked up: give its addresses with --advertise.\n"
            ),
            Self::Nothing => "The load balancer has no address yet: run this again when it has, or give --advertise.\n".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(status: &serde_json::Value) -> Progress {
        let object = json!({"metadata": {"name": "a", "generation": 2}, "spec": {"replicas": 2,
            "selector": {}, "template": {}}, "status": status});
        progress(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_deployment_is_done_when_all_of_its_newest_pods_are_there_and_no_others() {
        let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert!(deployment(&done).is_done);
        for (field, value, ready) in [
            ("observedGeneration", 1, 0),
            ("updatedReplicas", 1, 1),
            ("availableReplicas", 1, 1),
            ("replicas", 3, 2),
        ] {
            let mut status = done.clone();
            status[field] = json!(value);
            let progress = deployment(&status);
            assert_eq!((progress.is_done, progress.ready), (false, ready), "{field}");
        }
        assert!(!deployment(&json!({})).is_done);
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let pod = |status: serde_json::Value| {
            let object = json!({"metadata": {"name": "p"}, "status": status});
            problem(&serde_json::from_value(object).unwrap())
        };
        let waiting = |reason: &str| {
            json!({"containerStatuses": [{"name": "a", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "no such image"}}}]})
        };
        assert_eq!(
            pod(waiting("ImagePullBackOff")).unwrap(),
            "pod p: ImagePullBackOff: no such image"
        );
        assert_eq!(pod(waiting("ContainerCreating")), None);
        let unplaced = json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
        assert_eq!(pod(unplaced).unwrap(), "pod p: Unschedulable: 0/1 nodes are available");
    }

    #[test]
    fn a_load_balancer_tells_where_it_is_or_what_it_is_called() {
        let told = |ingress: serde_json::Value| {
            let service = json!({"metadata": {}, "status": {"loadBalancer": {"ingress": ingress}}});
            balancer(&serde_json::from_value(service).unwrap())
        };
        let found = told(json!([{"ip": "198.51.100.7"}, {"ip": "2001:db8::7"}]));
        let choice = found.chosen(&Choice::default()).unwrap();
        assert_eq!(choice.to_data()["advertise"], "198.51.100.7,2001:db8::7");
        assert!(found.told().contains("at 198.51.100.7 and 2001:db8::7"), "{}", found.told());
        let named = told(json!([{"hostname": "lb.example.org"}]));
        assert_eq!(named, Balancer::Named("lb.example.org".into()));
        assert_eq!(named.chosen(&Choice::default()), None);
        assert_eq!(told(json!([])), Balancer::Nothing);
    }
}
