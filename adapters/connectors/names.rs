//! Japanese names of the codes, as the contracts carry them beside each value.
//! Used where a product holds the wording instead of a code.
//! It must never make up a name: a value without one is refused by the caller.
//! Read next: `checks.rs`.

use musubi_proto::descriptor_pool;
use musubi_proto::standard::common::v1::StatusOfResidence;

/// Name of a 在留資格.
pub(crate) fn status_of_residence(status: StatusOfResidence) -> Option<String> {
    value_name("musubi.standard.common.v1.StatusOfResidence", status.into())
}

fn value_name(enumeration: &str, value: i32) -> Option<String> {
    let pool = descriptor_pool();
    let extension = pool.get_extension_by_name("musubi.standard.common.v1.value_name")?;
    let options = pool
        .get_enum_by_name(enumeration)?
        .get_value(value)?
        .options();
    let name = options
        .get_extension(&extension)
        .as_str()
        .map(ToOwned::to_owned);
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_name_of_the_law() {
        assert_eq!(
            status_of_residence(StatusOfResidence::PermanentResident).as_deref(),
            Some("永住者")
        );
        assert_eq!(status_of_residence(StatusOfResidence::Unspecified), None);
    }
}
