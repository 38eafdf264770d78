//! The tables of `momiji` and the connection to them, SQLite or PostgreSQL.
//! Only `BIGINT` and `TEXT` columns, so that the same statements serve both.
//! Nothing here may be special to one database but the two pragmas.
//! Read next: `units.rs`.

use std::path::Path;

use anyhow::Context;
use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use super::columns::COLUMNS;

const SQLITE: &str = "sqlite://";

/// Connects and makes the tables that are not there yet.
pub(super) async fn open(database: &str) -> anyhow::Result<AnyConnection> {
    install_default_drivers();
    let mut url = database.to_owned();
    if let Some(rest) = database.strip_prefix(SQLITE) {
        let file = rest.split('?').next().unwrap_or_default();
        if let Some(folder) = Path::new(file).parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("make the folder {}", folder.display()))?;
        }
        if !rest.contains('?') {
            url.push_str("?mode=rwc");
        }
    }
    let mut conn = AnyConnection::connect(&url)
        .await
        .context("open the database")?;
    if database.starts_with(SQLITE) {
        for pragma in [
            "PRAGMA busy_timeout = 10000",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
        ] {
            sqlx::query(pragma)
                .execute(&mut conn)
                .await
                .context("set up SQLite")?;
        }
    }
    for statement in statements() {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut conn)
            .await
            .context("make a table")?;
    }
    Ok(conn)
}

fn statements() -> Vec<String> {
    let items: String = COLUMNS
        .iter()
        .map(|field| format!("{} TEXT, ", field.name))
        .collect();
    vec![
        "CREATE TABLE IF NOT EXISTS if_setai_header (
            unit_key TEXT PRIMARY KEY, meisai_kensu BIGINT, sakusei_nichiji TEXT)"
            .to_owned(),
        format!(
            "CREATE TABLE IF NOT EXISTS if_setaiin_meisai (
                unit_key TEXT NOT NULL, gyo BIGINT NOT NULL, shori TEXT, kojin_no TEXT,
                rireki BIGINT, koshin_komoku TEXT, {items}sochi_no TEXT, sochi_han BIGINT,
                sochi_shuryo BIGINT, sochi_tsuika TEXT, PRIMARY KEY (unit_key, gyo))"
        ),
        "CREATE TABLE IF NOT EXISTS if_shori_marker (
            unit_key TEXT PRIMARY KEY, uketsuke_no BIGINT)"
            .to_owned(),
        "CREATE TABLE IF NOT EXISTS if_kekka (
            unit_key TEXT NOT NULL, gyo BIGINT NOT NULL, kojin_no TEXT, kekka TEXT NOT NULL,
            komoku TEXT, hoji_rireki BIGINT, renban BIGINT, PRIMARY KEY (unit_key, gyo))"
            .to_owned(),
        "CREATE INDEX IF NOT EXISTS if_kekka_renban ON if_kekka (renban)".to_owned(),
        format!(
            "CREATE TABLE IF NOT EXISTS hihokensha (
                kojin_no TEXT PRIMARY KEY, rireki BIGINT NOT NULL, {items}
                hogo_flg BIGINT NOT NULL)"
        ),
        "CREATE INDEX IF NOT EXISTS hihokensha_setai ON hihokensha (setai_no)".to_owned(),
        "CREATE TABLE IF NOT EXISTS hogo_sochi (
            kojin_no TEXT NOT NULL, sochi_no TEXT NOT NULL, han BIGINT NOT NULL,
            shuryo BIGINT NOT NULL, PRIMARY KEY (kojin_no, sochi_no))"
            .to_owned(),
        "CREATE TABLE IF NOT EXISTS setai (
            setai_no TEXT PRIMARY KEY, nushi_no TEXT, nushi_misettei TEXT, ninzu BIGINT)"
            .to_owned(),
    ]
}
