//! What the upstream suite does not ask for, and people do.
//!
//! | file | cases |
//! | --- | --- |
//! | [`away`] | what goes on while components, API servers or pods are away |
//! | [`load`] | calls without a pause, which those go by |
//! | [`pods`] | UDP; a pod of a StatefulSet called by its name |

mod away;
mod load;
mod pods;
