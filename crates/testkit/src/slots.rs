//! Rows of an extension's own, beside the core's, in the store in memory.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One value of each type. A clone shares what is not changed afterwards.
#[derive(Clone, Default)]
pub struct Slots(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("count", &self.0.len())
            .finish()
    }
}

/// What an extension keeps in memory: copied where a transaction changes it.
pub trait Slot: Clone + Default + Send + Sync + 'static {}

impl<T: Clone + Default + Send + Sync + 'static> Slot for T {}

impl Slots {
    /// What is kept of this type; what there is at first, where nothing was kept.
    #[must_use]
    pub fn get<T: Slot>(&self) -> Arc<T> {
        let kept = self.0.get(&TypeId::of::<T>()).cloned();
        kept.and_then(|slot| slot.downcast::<T>().ok())
            .unwrap_or_default()
    }

    /// What is kept of this type, to be changed.
    pub(crate) fn change<T: Slot, R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut slot = self.get::<T>();
        // What others hold stays as it is.
        self.0.remove(&TypeId::of::<T>());
        let result = change(Arc::make_mut(&mut slot));
        self.0.insert(TypeId::of::<T>(), slot);
        result
    }
}
