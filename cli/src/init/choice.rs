//! Pure: what people choose of a member: flags now, over what was chosen before, over what the cluster says of itself.
//!
//! What was chosen is kept in a ConfigMap, by the names of the flags. So the command can be given again without them, after
//! an upgrade for example, and changes only what it is told to.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use landbridge_model::{ClusterId, ClusterSetId, NetworkName};

use crate::{
    config::value,
    exit::Usage,
    manifests::settings::{Expose, Peers, Settings},
};

/// As far as it was said.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(crate) struct Choice {
    /// Id of the cluster in its set.
    #[arg(long, value_name = "ID")]
    pub(crate) cluster: Option<ClusterId>,
    /// Name of the clusterset.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_set: Option<ClusterSetId>,
    /// The image of `landbridge`, as the cluster's nodes find it.
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    pub(crate) image: Option<String>,
    /// How peers reach the gateways: loadbalancer, nodeport, hostport, or the ADDRESS of something that passes UDP on to
    /// --link-port of the nodes [default: loadbalancer].
    #[arg(long, value_name = "WAY")]
    pub(crate) expose: Option<Expose>,
    /// The port that is asked of the load balancer or the nodes [default: 30433 of nodeport and ADDRESS, else 4433].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) link_port: Option<u16>,
    /// Where peers dial: the load balancer's or nodes' IP, with a port unless it is --link-port. Without it, and without
    /// ADDRESS, this cluster only dials.
    #[arg(long, value_name = "IP[:PORT]")]
    pub(crate) advertise: Vec<Peers>,
    /// Clusters with the same network name reach each other's pods directly [default: the id, a network of its own].
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<NetworkName>,
    /// The region of the cluster, for locality.
    #[arg(long, value_name = "NAME", value_parser = value::label_value)]
    pub(crate) region: Option<String>,
}

/// A reference to an image.
pub(crate) fn image(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && !text.contains(char::is_whitespace);
    good.then(|| text.to_owned()).ok_or_else(|| {
        let version = env!("CARGO_PKG_VERSION");
        format!("is no image: give a reference such as registry.example/landbridge:{version}")
    })
}

impl Choice {
    /// This, and what it says nothing of as `before` has it.
    pub(crate) fn over(self, before: Self) -> Self {
        // Where peers dial belongs to the way in which gateways are exposed: another way, other addresses.
        let same_way = self.expose.is_none() || self.expose == before.expose;
        let kept = if same_way { before.clone() } else { Self::default() };
        let is_said = !self.advertise.is_empty();
        Self {
            cluster: self.cluster.or(before.cluster),
            cluster_set: self.cluster_set.or(before.cluster_set),
            image: self.image.or(before.image),
            expose: self.expose.or(before.expose),
            link_port: self.link_port.or(kept.link_port),
            advertise: if is_said { self.advertise } else { kept.advertise },
            network: self.network.or(before.network),
            region: self.region.or(before.region),
        }
    }

    /// By the names of the flags.
    pub(crate) fn to_data(&self) -> BTreeMap<String, String> {
        fn text(value: Option<&impl Display>) -> Option<String> {
            value.map(ToString::to_string)
        }
        let advertise: Vec<String> = self.advertise.iter().map(ToString::to_string).collect();
        let all = [
            ("cluster", text(self.cluster.as_ref())),
            ("cluster-set", text(self.cluster_set.as_ref())),
            ("image", text(self.image.as_ref())),
            ("expose", text(self.expose.as_ref())),
            ("link-port", text(self.link_port.as_ref())),
            ("advertise", (!advertise.is_empty()).then(|| advertise.join(","))),
            ("network", text(self.network.as_ref())),
            ("region", text(self.region.as_ref())),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Reads what [`Self::to_data`] writes.
    ///
    /// # Errors
    /// Which of them is wrong, and how.
    pub(crate) fn from_data(data: &BTreeMap<String, String>) -> Result<Self, String> {
        fn parsed<T: FromStr<Err: Display>>(
            data: &BTreeMap<String, String>,
            name: &str,
        ) -> Result<Option<T>, String> {
            let text = data.get(name);
            text.map(|text| text.parse::<T>().map_err(|error| format!("{name}: {text:?}: {error}")))
                .transpose()
        }
        let advertise = data.get("advertise").map(String::as_str).unwrap_or_default();
        let advertise = advertise.split(',').filter(|text| !text.is_empty()).map(|text| {
            text.parse::<Peers>().map_err(|error| format!("advertise: {text:?}: {error}"))
        });
        Ok(Self {
            cluster: parsed(data, "cluster")?,
            cluster_set: parsed(data, "cluster-set")?,
            image: parsed(data, "image")?,
            expose: parsed(data, "expose")?,
            link_port: parsed(data, "link-port")?,
            advertise: advertise.collect::<Result<_, String>>()?,
            network: parsed(data, "network")?,
            region: parsed(data, "region")?,
        })
    }

    /// What objects are made by.
    ///
    /// # Errors
    /// All that has to be said and was not.
    pub(crate) fn settings(&self, generation: u64, own_hub: bool) -> Result<Settings, Usage> {
        let (Some(cluster), Some(set), Some(image)) =
            (&self.cluster, &self.cluster_set, &self.image)
        else {
            let missing = [
                ("--cluster", self.cluster.is_none()),
                ("--cluster-set", self.cluster_set.is_none()),
                ("--image", self.image.is_none()),
            ];
            let missing: Vec<&str> =
                missing.into_iter().filter(|(_, is)| *is).map(|(flag, _)| flag).collect();
            return Err(Usage(format!("the first time, give {}", missing.join(", "))));
        };
        let network = match &self.network {
            Some(network) => network.clone(),
            None => {
                NetworkName::parse(cluster.as_str()).map_err(|error| Usage(error.to_string()))?
            }
        };
        let expose = self.expose.unwrap_or(Expose::LoadBalancer);
        let link_port = self.link_port.unwrap_or_else(|| expose.usual_port());
        Ok(Settings {
            advertise: expose.advertise(&self.advertise, link_port),
            cluster: cluster.clone(),
            crds: false,
            dns: Vec::new(),
            expose,
            generation,
            hub: None,
            image: image.clone(),
            link_port,
            network,
            own_hub,
            region: self.region.clone(),
            set: set.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Choice {
        Choice {
            cluster: Some("paris".parse().unwrap()),
            cluster_set: Some("prod".parse().unwrap()),
            image: Some("registry.example/landbridge:1".into()),
            expose: Some(Expose::NodePort),
            link_port: Some(31_000),
            advertise: vec!["192.0.2.1".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()],
            network: Some("europe".parse().unwrap()),
            region: Some("eu-west".into()),
        }
    }

    #[test]
    fn what_was_chosen_is_read_again() {
        for choice in [Choice::default(), full()] {
            assert_eq!(Choice::from_data(&choice.to_data()), Ok(choice));
        }
        assert_eq!(full().to_data()["advertise"], "192.0.2.1,[2001:db8::1]:9");
        let wrong = [("expose".to_owned(), "cloud".to_owned())].into();
        let told = Choice::from_data(&wrong).unwrap_err();
        assert!(told.starts_with("expose: \"cloud\": is none of loadbalancer"), "{told}");
    }

    #[test]
    fn flags_count_before_what_was_chosen_before() {
        let image = Choice { image: Some("other:2".into()), ..Choice::default() };
        assert_eq!(image.clone().over(full()), Choice { image: image.image, ..full() });
        assert_eq!(Choice::default().over(full()), full());
        let moved = Choice { expose: Some(Expose::HostPort), ..Choice::default() }.over(full());
        assert_eq!((moved.link_port, moved.advertise), (None, Vec::new()));
    }

    #[test]
    fn what_was_never_said_is_asked_for() {
        let told = Choice::default().settings(1, true).unwrap_err().to_string();
        assert_eq!(told, "the first time, give --cluster, --cluster-set, --image");
        let settings = full().settings(3, true).unwrap();
        assert_eq!((settings.generation, settings.link_port, settings.own_hub), (3, 31_000, true));
        assert_eq!(settings.advertise[0].to_string(), "192.0.2.1:31000");
    }
}
