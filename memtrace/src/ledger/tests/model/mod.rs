//! The ledger against a model that keeps every page by itself and knows no intervals.

mod account;
mod effect;
mod mappings;
mod overlap;
mod pages;
mod steps;
mod world;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_ledger_agrees_with_a_model_of_single_pages(
        before in steps::before(),
        steps in steps::steps(),
    ) {
        let mut world = world::World::new(&before);
        for (who, step) in &steps {
            world.step(*who, step);
            prop_assert_eq!(world.differs(), None);
        }
    }
}
