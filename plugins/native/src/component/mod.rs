//! Components of a library as implementations of the traits.

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
