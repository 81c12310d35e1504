//! The tools as the Model Context Protocol has them.

use std::sync::Arc;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use serde_json::{Value, json};

use super::desk::{Desk, Inquiry};
use super::said::said;
use super::wishes::{DevicesOf, FindTags, HistoryOf, Latest, LossesOf, ProveOf, ReadNow};

const INSTRUCTIONS: &str = "Plant data from Tidegate gateways, read-only. Begin with find_tags: paths look like \
PlantA/Line3/Press1/temperature. latest tells what the gateways know now, read_now asks the devices themselves, \
history tells the past (give `every` for anything longer than a few minutes). Every value has a quality: good can be \
used, uncertain only with its reason, bad not at all. Every answer says whether it is complete; where it is not, \
coverage.gaps, absent and refused say what is missing and why. Say so when you report, and never take a gap for zero \
or for no change. Times are UTC.";

/// The server that an agent talks to.
#[derive(Clone)]
pub(super) struct Tools {
    desk: Arc<dyn Desk>,
    tool_router: ToolRouter<Self>,
}

impl Tools {
    pub(super) fn new(desk: Arc<dyn Desk>) -> Self {
        Self { desk, tool_router: Self::tool_router() }
    }

    async fn answer(&self, inquiry: Inquiry) -> CallToolResult {
        let limit = inquiry.limit;
        let gathered = self.desk.ask(inquiry).await;
        result(gathered.and_then(|gathered| said(gathered, limit)))
    }
}

fn result(said: Result<Value, String>) -> CallToolResult {
    match said {
        Ok(value) => CallToolResult::structured(value),
        Err(text) => CallToolResult::error(vec![ContentBlock::text(text)]),
    }
}

#[tool_router]
impl Tools {
    #[tool(
        description = "Find measuring points by path, pattern or text. Rows: path, kind, unit, device, address, gateway.",
        annotations(title = "Find tags", read_only_hint = true, open_world_hint = false)
    )]
    async fn find_tags(&self, Parameters(wish): Parameters<FindTags>) -> CallToolResult {
        self.answer(wish.into()).await
    }

    #[tool(
        description = "The latest value of each tag as its gateway has it, with quality, unit and age in milliseconds. Costs the devices nothing.",
        annotations(title = "Latest values", read_only_hint = true, open_world_hint = false)
    )]
    async fn latest(&self, Parameters(wish): Parameters<Latest>) -> CallToolResult {
        self.answer(wish.into()).await
    }

    #[tool(
        description = "Read tags from their devices at this moment. Slower than latest and a load on the device: use it when the present value matters, for few tags.",
        annotations(title = "Read now", read_only_hint = true, open_world_hint = false)
    )]
    async fn read_now(&self, Parameters(wish): Parameters<ReadNow>) -> CallToolResult {
        self.answer(wish.into()).await
    }

    #[tool(
        description = "What was recorded: single samples, or buckets of a step (`every`) with min, max, avg, last and count, or the state at one moment (`at`). Tells how much of the range is covered and names every gap with its cause.",
        annotations(title = "History", read_only_hint = true, open_world_hint = false)
    )]
    async fn history(&self, Parameters(wish): Parameters<HistoryOf>) -> CallToolResult {
        self.answer(wish.into()).await
    }

    #[tool(
        description = "What was not recorded and why: device silent, gateway not running, journal full and so on, with who, from, to and how many samples. Explains gaps in history.",
        annotations(title = "Losses", read_only_hint = true, open_world_hint = false)
    )]
    async fn losses(&self, Parameters(wish): Parameters<LossesOf>) -> CallToolResult {
        self.answer(wish.into()).await
    }

    #[tool(
        description = "How the devices behind the gateways are doing: state (live, degraded, down, configuration-error), since when and why, last data, what was missed.",
        annotations(title = "Devices", read_only_hint = true, open_world_hint = false)
    )]
    async fn devices(&self, Parameters(wish): Parameters<DevicesOf>) -> CallToolResult {
        self.answer(wish.into()).await
    }

    #[tool(
        description = "Prove that nothing of a gateway's record was lost, or name exactly what was. From the hub's copy where it can be read from here (verdict balanced, balanced-to-watermark, unbalanced or unverifiable); otherwise the gateway's own side alone, which is no proof.",
        annotations(title = "Prove", read_only_hint = true, open_world_hint = false)
    )]
    async fn prove(&self, Parameters(wish): Parameters<ProveOf>) -> CallToolResult {
        match self.desk.judge(wish.gateway.clone()).await {
            Ok(Some(report)) => result(Ok(json!({ "from": "hub", "report": report }))),
            Ok(None) => {
                let inquiry = ProveOf::own_side(wish.gateway);
                let limit = inquiry.limit;
                let own = self.desk.ask(inquiry).await.and_then(|own| said(own, limit));
                result(own.map(|own| json!({ "from": "gateway", "no_proof": true, "report": own })))
            }
            Err(text) => result(Err(text)),
        }
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("tidegate", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }
}
