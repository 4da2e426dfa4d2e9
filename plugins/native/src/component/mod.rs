//! The traits on top of calls.

mod encoder;
mod judge;
mod objective;
mod policy;
mod retrospector;

pub(crate) use encoder::NativeEncoder;
pub(crate) use judge::NativeJudge;
pub(crate) use objective::NativeObjective;
pub(crate) use policy::NativePolicy;
pub(crate) use retrospector::NativeRetrospector;
