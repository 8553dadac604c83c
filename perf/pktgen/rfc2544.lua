-- RFC 2544: throughput (section 26.1) and back-to-back frames (26.4) for all its frame sizes. Latency
-- (26.2) needs stamps that are read per packet: trex/stateless.py and `tidegate-bench rfc2544` do that.

require "Pktgen"
local site = require "site"

local SIZES = { 64, 128, 256, 512, 1024, 1280, 1518 }
local FLOWS = 1000
local SECONDS = 60
local LOSS = 0
-- RFC 2544 asks for fifty, of two seconds at the least.
local BURSTS, BURST_SECONDS = 50, 2

local function throughput(size)
	local best
	local rate = site.search(100, 0.5, function(percent)
		local result = site.trial(percent, SECONDS)
		if result.loss <= LOSS then
			best = result
		end
		return result.loss <= LOSS
	end)
	if rate == nil then
		printf("%d bytes: throughput is below %.2f %% of the link\n", size, 0.5)
	else
		printf("%d bytes: throughput %.3f Mpps, %.2f %% of the link\n", size, best.mpps, rate)
	end
end

-- Sends `count` frames at the link's rate and tells whether all arrived.
local function passes_burst(count)
	pktgen.set(site.sender, "rate", 100)
	pktgen.set(site.sender, "count", count)
	pktgen.clr()
	pktgen.start(site.sender)
	repeat
		pktgen.delay(10)
	until pktgen.isSending(tostring(site.sender))[site.sender] == "n"
	pktgen.delay(site.grace)
	return site.result(BURST_SECONDS).lost == 0
end

local function back_to_back(size)
	local longest = math.floor(site.line_rate(size) * BURST_SECONDS)
	local sum = 0
	for _ = 1, BURSTS do
		sum = sum + (site.search(longest, longest / 1000, function(frames)
			return passes_burst(math.max(math.floor(frames), 1))
		end) or 0)
	end
	pktgen.set(site.sender, "count", 0)
	printf("%d bytes: %.0f frames back to back, the mean of %d searches\n", size, sum / BURSTS, BURSTS)
end

site.prepare()
for _, size in ipairs(SIZES) do
	site.flows(size, FLOWS)
	site.trial(1, 2) -- makes the sessions
	throughput(size)
	back_to_back(size)
end
pktgen.set_range(site.sender, "off")
