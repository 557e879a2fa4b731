#![doc = include_str!("../../../docs/GUIDE.md")]
