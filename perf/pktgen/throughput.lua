-- Packets per second through the gateway: 64 bytes and a mix of sizes, at several numbers of
-- established flows. Prints what arrives at the link's full rate, and the greatest rate without loss.

require "Pktgen"
local site = require "site"

local SECONDS = 10
local WARM_UP = 5
local LOSS = 0

local function measure(name)
	site.trial(100, WARM_UP)
	local full = site.trial(100, SECONDS)
	printf("%s: %.3f Mpps arrive of a full link, %.2f %% are lost\n", name, full.mpps, full.loss * 100)
	local best
	local rate = site.search(100, 0.5, function(percent)
		local result = site.trial(percent, SECONDS)
		if result.loss <= LOSS then
			best = result
		end
		return result.loss <= LOSS
	end)
	if rate == nil then
		printf("%s: something is lost at every rate\n", name)
	else
		printf("%s: %.3f Mpps (%.2f %% of the link) without loss\n", name, best.mpps, rate)
	end
end

site.prepare()
for _, flows in ipairs({ 1000, 100000, 1000000, 10000000 }) do
	site.flows(64, flows)
	measure(string.format("64 bytes, %d flows", flows))
end
pktgen.set_range(site.sender, "off")
site.imix()
measure("IMIX 7:4:1, 4096 flows for each packet of the sequence")
pktgen.rnd(site.sender, 0, 34, "off")
pktgen.set(site.sender, "seq_cnt", 0)
