package instances

import (
	"math/rand/v2"
	"strings"
)

var adjectives = strings.Fields(`able alert amber apt ample ashen avid basic bold brave brief bright brisk calm candid
	casual cheery chief civil clean clear clever cosmic cozy crisp curious dapper daring deep deft dense eager early
	easy exact fair famous fast fine firm fluent fond frank free fresh gentle glad golden grand green handy happy
	hardy helpful honest humble ideal jolly joint keen kind large lasting light lively loyal lucid lucky main merry
	mighty mild modest native neat nimble noble novel open patient perky plain polite prime proper proud pure quick
	quiet rapid rare ready regal rich robust royal safe sharp shiny silent simple sincere smart smooth snug solid
	sound spare stable steady sunny sure sweet swift tender tidy top true trusty upbeat vast vital vivid warm wise witty`)

var animals = strings.Fields(`adder alpaca antelope badger bat bear beaver bee beetle bison boar bobcat buffalo camel
	cat cheetah cobra collie condor corgi cougar cow coyote crab crane cricket crow deer dingo dog dolphin donkey dove
	duck eagle eel egret elk emu falcon ferret finch fish flamingo fox frog gannet gazelle gecko gibbon giraffe gnu goat
	goose gopher grouse guppy hare hawk heron hippo hornet horse hound husky hyena ibex ibis iguana jackal jaguar jay
	kite kiwi koala koi lamb lark lemur leopard lion lizard llama lobster lynx macaw magpie mantis marmot marten mole
	moose moth mouse mule newt octopus orca oriole osprey otter owl ox oyster panda panther parrot pelican penguin pig
	pigeon pony possum puffin puma python quail rabbit raccoon ram raven robin rook salmon seal shark sheep shrew shrimp
	skunk sloth snail snake sparrow spider squid stork swan tapir tern tiger toad toucan trout tuna turkey turtle viper
	vole walrus warthog wasp weasel whale wolf wombat wren yak zebra`)

// inventName returns a name such as "calm-otter".
func inventName() string {
	return pick(adjectives) + "-" + pick(animals)
}

func pick(words []string) string {
	return words[rand.IntN(len(words))] //nolint:gosec // Nobody has to be surprised by it.
}
