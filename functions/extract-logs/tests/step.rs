//! What the step does without a node. What it does with one is tested over local chains (`tests/chain`, `tests/aws`).

use defi_shared::step::{Report, UnitInput};
use defi_shared::testing::{AAVE, TestLake, january, kind};
use defi_shared::{Kind, Result};
use extract_logs::handle;

#[tokio::test]
async fn lake_of_the_two_apis_has_no_logs_to_extract() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(3))?;
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?, Report::default());
    assert!(test_lake.objects("").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn without_a_node_nothing_is_extracted() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(3))?;
    let input = UnitInput { days: Some([january(1)].into()), ..UnitInput::default() };
    assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::BadInput));
    assert!(test_lake.objects("").await?.is_empty());
    Ok(())
}
