//! 
pub mod edge;
