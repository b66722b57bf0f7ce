-- As wrk.lua; each request names one of so many static services, s0, s1, ..., in a random order.
dofile(os.getenv("LOADTEST_WRK_LUA"))
local requests = {}
local at = 0
init = function(args)
    math.randomseed(1)
    local count = tonumber(args[1])
    for n = 1, 5000 do
        wrk.headers["Host"] = "s" .. math.random(0, count - 1)
        requests[n] = wrk.format("GET", "/1k")
    end
end
request = function()
    at = at % #requests + 1
    return requests[at]
end
