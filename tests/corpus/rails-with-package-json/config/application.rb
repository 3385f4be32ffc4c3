module Corpus
end
