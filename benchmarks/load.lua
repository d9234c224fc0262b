-- Embedding requests for wrk: N texts each, made of the words of a file, no two of a run equal.
-- From the environment: N, LONGEST (words in a text: 1 to so many), FIELD (texts, or input), WORDS (the file).
local count, longest = tonumber(os.getenv("N")), tonumber(os.getenv("LONGEST"))
local field, words, bad = os.getenv("FIELD"), {}, 0
for word in io.open(os.getenv("WORDS")):read("*a"):gmatch("%a+") do words[#words + 1] = word end

function request()
  local texts = {}
  for i = 1, count do
    local text = { math.random(99999999) }
    for j = 1, math.random(longest) do text[j + 1] = words[math.random(#words)] end
    texts[i] = '"' .. table.concat(text, " ") .. '"'
  end
  local body = '{"model":"minilm","' .. field .. '":[' .. table.concat(texts, ",") .. "]}"
  return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, body)
end

function response(status, _, body)
  if status ~= 200 and bad < 3 then
    bad = bad + 1
    io.stderr:write(status, " ", body:sub(1, 200), "\n")
  end
end
