//! What is made wrong on purpose: an API that breaks one rule, to see that each rule can be broken.

use std::rc::Rc;

use landbridge_api::wellknown::{GATEWAYS, IMPORT};

use crate::{
    api::{Refused, with_status},
    rules::By,
    thing::{Sort, Thing},
    work::Op,
    world::{Mischief, World},
};

impl World {
    /// What becomes of a request of a controller; an error where it is not done and said to be.
    pub(crate) fn twist(&mut self, api: Option<usize>, by: By, op: Op) -> Result<Op, Op> {
        if !matches!(by, By::Controller(_)) {
            return Ok(op);
        }
        let is_first = api == Some(0);
        let is_pretended = match (self.mischief, &op) {
            (Mischief::KeptImports, Op::Delete(Sort::ServiceImport, ..)) => is_first,
            (
                Mischief::MutedConflicts | Mischief::MutedReady,
                Op::Status(Sort::ServiceExport, key, status),
            ) if is_first => {
                let is_ready = self.mischief == Mischief::MutedReady;
                let type_ = if is_ready { "Ready" } else { "Conflict" };
                let mut muted = status.clone();
                let conditions = muted["conditions"].as_array_mut().into_iter().flatten();
                let conflict = conditions.filter(|one| one["type"] == type_);
                conflict.for_each(|one| one["status"] = "False".into());
                if let Some(known) = self.api(api).find(Sort::ServiceExport, key).cloned() {
                    self.api_mut(api).tamper(with_status(&known, &muted));
                }
                true
            }
            (Mischief::KeptEndpoints, Op::Update(Thing::EndpointSlice(slice))) => {
                let (sort, key) = op.target();
                let current = self.api(api).find(sort, &key).and_then(|known| known.slice());
                current.is_some_and(|known| known.endpoints.len() > slice.endpoints.len())
            }
            (Mischief::SharedPort, Op::Create(thing)) if thing.annotation(GATEWAYS).is_some() => {
                drop(self.change(api, By::Cluster, op.clone()));
                let (sort, key) = op.target();
                let mut kept = self.api(api).find(sort, &key).map(|known| (**known).clone());
                if let Some(Thing::EndpointSlice(slice)) = &mut kept {
                    let ports = slice.ports.iter_mut().flatten().take(1);
                    ports.for_each(|port| port.port = Some(12_345));
                }
                kept.into_iter().for_each(|kept| self.api_mut(api).tamper(kept));
                true
            }
            (Mischief::KeptPorts, Op::Update(Thing::Service(_))) => true,
            _ => false,
        };
        if is_pretended { Err(op) } else { Ok(self.bend(api, by, op)) }
    }

    fn bend(&mut self, api: Option<usize>, by: By, mut op: Op) -> Op {
        let (Op::Create(thing) | Op::Update(thing)) = &mut op else { return op };
        let is_gateways = thing.annotation(GATEWAYS).is_some();
        let is_made = thing.annotation(IMPORT).is_some();
        match (self.mischief, &mut *thing) {
            (Mischief::Renumbered, Thing::EndpointSlice(slice))
                if is_gateways && slice.metadata.uid.is_some() =>
            {
                let ports = slice.ports.iter_mut().flatten();
                ports.for_each(|port| port.port = port.port.map(|number| number + 100));
            }
            (Mischief::SharedAddress, Thing::Service(service))
                if is_made && service.metadata.uid.is_none() =>
            {
                let spec = service.spec.get_or_insert_default();
                spec.cluster_ip = Some("10.96.250.250".to_owned());
            }
            (Mischief::Unlabelled, Thing::ServiceImport(import)) => {
                import.metadata.labels.get_or_insert_default().remove("team");
            }
            (Mischief::Remade, Thing::ServiceImport(import)) if import.metadata.uid.is_some() => {
                let mut made = thing.clone();
                drop(self.change(api, by, Op::Delete(Sort::ServiceImport, made.key(), None)));
                let meta = made.meta_mut();
                (meta.uid, meta.resource_version) = (None, None);
                return Op::Create(made);
            }
            _ => {}
        }
        op
    }

    /// The answer of an API that has done nothing and says otherwise.
    pub(crate) fn pretend(&self, api: Option<usize>, op: Op) -> Result<Option<Rc<Thing>>, Refused> {
        let (sort, key) = op.target();
        Ok(match op {
            Op::Create(thing) | Op::Update(thing) => Some(Rc::new(thing)),
            Op::Delete(..) => None,
            Op::Status(_, _, status) => {
                self.api(api).find(sort, &key).map(|known| Rc::new(with_status(known, &status)))
            }
        })
    }
}
