//! Stopping anywhere and going on gives the same units, with or without the index.

use super::{Registry, drain, items, town, units};

/// Records, with the header, up to the end of a 届出.
const END_OF_A_GROUP: usize = 274;

/// Units of an undisturbed run.
async fn undisturbed(registry: &Registry) -> Vec<musubi_adapter_sdk::hub::PublishUnit> {
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    let units = units(&drain(capture.as_mut(), registry.items).await);
    drop(capture);
    std::fs::remove_dir_all(registry.root.path().join("data")).unwrap();
    units
}

#[tokio::test]
async fn going_on_after_every_page_gives_the_same_units() {
    let registry = Registry::with_part_of_town(&town(), END_OF_A_GROUP, 50);
    let expected = undisturbed(&registry).await;
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    let mut round = 0_usize;
    while found.iter().map(items).sum::<usize>() < registry.items {
        round += 1;
        let index = registry.config().index_file();
        match round % 7 {
            // The index is lost, or is no database at all.
            1 => drop(std::fs::remove_file(&index)),
            3 => std::fs::write(&index, b"no database, but a text that is long enough").unwrap(),
            _ => {}
        }
        let mut capture = registry.open().await;
        capture.resume(cursor.clone()).await.unwrap();
        // The first page is published; the second is lost in every other round.
        let mut pages = vec![capture.next().await.unwrap()];
        let last = pages[0].units.iter().map(items).sum::<usize>()
            + found.iter().map(items).sum::<usize>()
            == registry.items;
        if round.is_multiple_of(2) && !last {
            drop(capture.next().await.unwrap());
        }
        cursor = Some(pages[0].cursor.clone());
        found.append(&mut pages.remove(0).units);
    }
    assert_eq!(found.len(), expected.len());
    assert!(
        found == expected,
        "the same units in the same order, to the byte"
    );
}

#[tokio::test]
async fn an_index_ahead_of_the_hub_is_built_again() {
    let registry = Registry::with_part_of_town(&town(), END_OF_A_GROUP, 50);
    let expected = undisturbed(&registry).await;
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    let first = capture.next().await.unwrap();
    drain(
        capture.as_mut(),
        registry.items - first.units.iter().map(items).sum::<usize>(),
    )
    .await;
    // The hub lost everything after the first page.
    capture.resume(Some(first.cursor.clone())).await.unwrap();
    let rest = drain(capture.as_mut(), registry.items - first.units.len()).await;
    let mut found = first.units;
    found.extend(units(&rest));
    assert!(found == expected);
}
