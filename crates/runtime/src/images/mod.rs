//! Images: their names (`reference`), the store on disk (`store`), layers into directories (`unpack`), and where images
//! come from: files (`archive`), closures (`import`), registries (`pull`).

pub mod archive;
pub mod import;
pub mod lock;
pub mod node;
pub mod pull;
pub mod reference;
pub mod store;
pub mod unpack;
pub mod user;

pub use store::{Coming, Images, Stored};
