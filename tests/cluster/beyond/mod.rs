//! What the upstream suite does not ask for, and people do.
//!
//! | file | cases |
//! | --- | --- |
//! | [`away`] | what goes on while components, API servers or pods are away |
//! | [`hub`] | what goes on while the whole cluster of the hub is gone |
//! | [`load`] | calls without a pause, which those go by |
//! | [`names`] | what a pod asks of the DNS besides |
//! | [`pods`] | UDP; a pod of a StatefulSet called by its name |

mod away;
mod hub;
mod load;
mod names;
mod pods;
