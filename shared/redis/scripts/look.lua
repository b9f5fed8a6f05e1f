-- Announces that something may become due in the step that follows. All
-- announcements of one minute are one entry, and it fires at a fixed time, a
-- minute later or two: an entry that was moved on by each of them might never
-- fire. By then the step is done, or refused as stale. Answers as well how the
-- fast tick stands after it.
local seconds = split(now)
local fires = (math.floor(seconds / 60) + 2) * 60
redis.call("ZADD", prefix, fires, string.format("%d ", fires) .. arg.member)
return { "ok", now, join(fires, 0), redis.call("HGET", "{" .. prefix .. "}:tick", "state") or "off" }
