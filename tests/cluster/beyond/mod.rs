//! What the upstream suite does not ask for, and people do.
//!
//! | file | cases |
//! | --- | --- |
//! | [`pods`] | UDP; a pod of a StatefulSet called by its name |

mod pods;
