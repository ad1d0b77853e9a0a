//! Databases of tests on a PostgreSQL server that the environment names.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use sqlx::AssertSqlSafe;
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

/// An empty database on the server that `WARDROOM_TEST_POSTGRES` names.
#[expect(clippy::disallowed_methods, reason = "a test server is named by the environment, not by a configuration")]
pub(crate) async fn new_database() -> Option<String> {
    let Ok(server) = std::env::var("WARDROOM_TEST_POSTGRES") else {
        println!("skipped: WARDROOM_TEST_POSTGRES names no PostgreSQL server");
        return None;
    };
    let options: PgConnectOptions = server.parse().unwrap();
    let name = format!("wardroom_{}", Uuid::new_v4().simple());
    let mut connection = options.clone().connect().await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    Some(options.database(&name).to_url_lossy().to_string())
}
